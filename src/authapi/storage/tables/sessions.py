"""Queries on `sessions`."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncConnection

from authapi.crypto.secrets import SecretHash
from authapi.identity import Client, Session, SessionKind, User
from authapi.storage.models import refresh_families, sessions, signing_keys, users
from authapi.storage.tables.users import USER_COLUMNS

_COLUMNS = (
    sessions.c.id,
    sessions.c.user_id,
    sessions.c.kind,
    sessions.c.name,
    sessions.c.scopes,
    sessions.c.created_at,
    sessions.c.last_seen_at,
    sessions.c.idle_expires_at,
    sessions.c.expires_at,
    sessions.c.auth_time,
    sessions.c.amr,
    sessions.c.ip,
    sessions.c.user_agent,
    sessions.c.data,
    sessions.c.remembered,
)
_WITH_USER = sa.select(*_COLUMNS, *USER_COLUMNS).join(users, users.c.id == sessions.c.user_id)
_BY_SECRET = _WITH_USER.where(
    sessions.c.secret_hash == sa.bindparam("secret"), sessions.c.kind == sa.bindparam("kind")
)
_OF_KIND = sessions.c.kind == sa.bindparam("kind")
_IS_CURRENT = sessions.c.secret_hash == sa.bindparam("secret")
_WAS_REPLACED = (sessions.c.replaced_hash == sa.bindparam("secret")) & (
    sessions.c.auth_time >= sa.bindparam("since")
)
_COOKIE = _WITH_USER.add_columns(_IS_CURRENT).where(_OF_KIND, _IS_CURRENT | _WAS_REPLACED)
_BY_ID = _WITH_USER.where(sessions.c.id == sa.bindparam("id"))
_BY_ID_AND_KIND = _BY_ID.where(_OF_KIND)
_BY_SIGNED_ID = _BY_ID.where(
    sa.exists().where(signing_keys.c.kid == sa.bindparam("kid")).correlate(None)
)
_BY_SIGNED_ID_AND_KIND = _BY_SIGNED_ID.where(_OF_KIND)
_AMONG = sa.select(sessions.c.id).where(
    sessions.c.id == sa.any_(sa.bindparam("ids", type_=postgresql.ARRAY(sa.Uuid)))
)
_AMONG_FREE = _AMONG.with_for_update(key_share=True, skip_locked=True)


class SessionTable:
    """Login sessions of every kind, inside one transaction."""

    def __init__(self, connection: AsyncConnection, changed: set[UUID]) -> None:
        self._connection = connection
        self._changed = changed

    async def add(
        self, session: Session, secret: SecretHash | None, *, replaces: SecretHash | None = None
    ) -> None:
        """Insert `session`, found later by the hash of its secret, or by its id if it has none.

        `replaces` is the hash of the secret that its client presented before.
        """
        await self._connection.execute(
            sa.insert(sessions).values(
                id=session.id,
                user_id=session.user_id,
                kind=session.kind,
                secret_hash=secret,
                name=session.name,
                # JSON's null for a login: all that its user may do.
                scopes=None if session.scopes is None else sorted(session.scopes),
                created_at=session.created_at,
                last_seen_at=session.last_seen_at,
                idle_expires_at=session.idle_expires_at,
                expires_at=session.expires_at,
                auth_time=session.auth_time,
                amr=list(session.amr),
                ip=session.client.ip,
                user_agent=session.client.user_agent,
                data=dict(session.data),
                remembered=session.remembered,
                replaced_hash=replaces,
            )
        )

    async def find_by_secret(
        self, secret: SecretHash, kind: SessionKind
    ) -> tuple[Session, User] | None:
        """The session with this secret, and its user: one statement."""
        return await self._one(_BY_SECRET, {"secret": secret, "kind": kind})

    async def find_presented(
        self, secret: SecretHash, kind: SessionKind, *, since: datetime
    ) -> tuple[tuple[Session, User] | None, bool]:
        """The session with this secret, and its user: one statement.

        Where there is none, also whether a cookie session has got another secret in the place of
        this one since then.
        """
        if kind is not SessionKind.SESSION:
            return await self.find_by_secret(secret, kind), False
        values = {"secret": secret, "kind": kind, "since": since}
        rows = (await self._connection.execute(_COOKIE, values)).all()
        for row in rows:
            if row[-1]:
                return (_session(row[: len(_COLUMNS)]), User(*row[len(_COLUMNS) : -1])), False
        return None, bool(rows)

    async def find_with_user(
        self, session_id: UUID, kind: SessionKind | None = None
    ) -> tuple[Session, User] | None:
        """The session with this id, of this kind if one is given, and its user: one statement."""
        if kind is None:
            return await self._one(_BY_ID, {"id": session_id})
        return await self._one(_BY_ID_AND_KIND, {"id": session_id, "kind": kind})

    async def find_signed(
        self, session_id: UUID, kind: SessionKind | None, *, kid: str
    ) -> tuple[Session, User] | None:
        """The same, if the key is still there that has signed the id: one statement."""
        if kind is None:
            return await self._one(_BY_SIGNED_ID, {"id": session_id, "kid": kid})
        values = {"id": session_id, "kind": kind, "kid": kid}
        return await self._one(_BY_SIGNED_ID_AND_KIND, values)

    async def lock(self, session_id: UUID) -> Session | None:
        """The session, held against other writers until the commit."""
        statement = sa.select(*_COLUMNS).where(sessions.c.id == session_id).with_for_update()
        row = (await self._connection.execute(statement)).one_or_none()
        return None if row is None else _session(row)

    async def lock_of(self, user_id: UUID) -> None:
        """Hold every session of this user, who is held already, until the commit."""
        statement = sa.select(sessions.c.id).where(_of(user_id)).order_by(sessions.c.id)
        await self._connection.execute(statement.with_for_update())

    async def lock_by_family(self, family: SecretHash) -> tuple[Session, User] | None:
        """The session that this refresh family renews, held until the commit, and its user."""
        return await self._one(_of_family(family).with_for_update(of=sessions), {})

    async def find_by_family(self, family: SecretHash) -> tuple[Session, User] | None:
        """The session that this refresh family renews, and its user."""
        return await self._one(_of_family(family), {})

    async def find_owner(self, secret: SecretHash, kind: SessionKind) -> UUID | None:
        """Whose session has this secret."""
        statement = sa.select(sessions.c.user_id).where(
            sessions.c.secret_hash == secret, sessions.c.kind == kind
        )
        return (await self._connection.execute(statement)).scalar_one_or_none()

    async def find_owner_of(self, session_id: UUID) -> UUID | None:
        """Whose session has this id."""
        statement = sa.select(sessions.c.user_id).where(sessions.c.id == session_id)
        return (await self._connection.execute(statement)).scalar_one_or_none()

    async def ended_jwts(self, session_id: UUID) -> dict[str, float]:
        """The JWTs of this session that were ended: the NumericDate of their `exp`, by `jti`."""
        statement = sa.select(sessions.c.ended_jwts).where(sessions.c.id == session_id)
        return dict((await self._connection.execute(statement)).scalar_one_or_none() or {})

    async def set_ended_jwts(self, session_id: UUID, ended: Mapping[str, float]) -> None:
        """Replace what `ended_jwts` gives."""
        await self._connection.execute(
            sa.update(sessions).where(sessions.c.id == session_id).values(ended_jwts=dict(ended))
        )

    async def find_data(self, session_id: UUID) -> Mapping[str, object] | None:
        """The data kept with a session."""
        statement = sa.select(sessions.c.data).where(sessions.c.id == session_id)
        return (await self._connection.execute(statement)).scalar_one_or_none()

    async def list_of(
        self, user_id: UUID, *, personal: bool, now: datetime, limit: int = 1000
    ) -> Sequence[Session]:
        """What is alive at `now`: personal access tokens, or logins; the newest first."""
        named = sessions.c.name.is_not(None) if personal else sessions.c.name.is_(None)
        statement = (
            sa.select(*_COLUMNS)
            .where(sessions.c.user_id == user_id, named, _alive(now))
            .order_by(sessions.c.id.desc())
            .limit(limit)
        )
        return [_session(row) for row in await self._connection.execute(statement)]

    async def set_data(self, session_id: UUID, data: Mapping[str, object]) -> None:
        """Replace the data kept with a session."""
        await self._connection.execute(
            sa.update(sessions).where(sessions.c.id == session_id).values(data=dict(data))
        )

    async def replace_secret(
        self, session_id: UUID, secret: SecretHash, *, auth_time: datetime
    ) -> None:
        """Give a session another secret, for a proof at `auth_time`; the old one is dead."""
        statement = sa.update(sessions).where(sessions.c.id == session_id)
        renewed = statement.values(
            secret_hash=secret, replaced_hash=sessions.c.secret_hash, auth_time=auth_time
        )
        found = await self._connection.execute(renewed.returning(sessions.c.user_id))
        self._changed.update(found.scalars())

    async def prove_again(self, session_id: UUID, *, auth_time: datetime) -> None:
        """Note that the owner of a session proved who they are at `auth_time`."""
        statement = sa.update(sessions).where(sessions.c.id == session_id)
        found = await self._connection.execute(
            statement.values(auth_time=auth_time).returning(sessions.c.user_id)
        )
        self._changed.update(found.scalars())

    async def end_at(self, session_id: UUID, moment: datetime) -> None:
        """Let a session end at `moment`, used or not, if it does not end before."""
        statement = sa.update(sessions).where(sessions.c.id == session_id)
        found = await self._connection.execute(
            statement.where(sessions.c.expires_at > moment)
            .values(expires_at=moment)
            .returning(sessions.c.user_id)
        )
        self._changed.update(found.scalars())

    async def saw(self, seen: Iterable[tuple[UUID, datetime, datetime | None]]) -> set[UUID]:
        """Write down uses: (session, when, when it now expires for idleness). Never backwards.

        Waits for no other transaction: on PostgreSQL, sessions that another one holds are passed
        over, and their ids returned. Many sessions of many users are locked here, whose users are
        not held, so to wait for one of them could be a deadlock.
        """
        uses = {key: (at, idle) for key, at, idle in seen}
        keys, busy = set(uses), set[UUID]()
        if keys and self._connection.dialect.name == "postgresql":
            free = await self._among(_AMONG_FREE, keys)
            if left := keys - free:
                busy = await self._among(_AMONG, left)  # the others have ended
            keys = free
        if keys:
            await self._connection.execute(
                sa.update(sessions)
                .where(
                    sessions.c.id == sa.bindparam("b_id"),
                    sessions.c.last_seen_at < sa.bindparam("b_at"),
                )
                .values(last_seen_at=sa.bindparam("b_at"), idle_expires_at=sa.bindparam("b_idle")),
                [{"b_id": k, "b_at": uses[k][0], "b_idle": uses[k][1]} for k in sorted(keys)],
            )
        return busy

    async def end(self, session_id: UUID) -> bool:
        """Remove one session; whether it was there."""
        return await self._delete(sessions.c.id == session_id) == 1

    async def end_secret(self, secret: SecretHash, kind: SessionKind) -> tuple[UUID, UUID] | None:
        """Remove the session with this secret: its id and that of its user, if there was one."""
        statement = (
            sa.delete(sessions)
            .where(sessions.c.secret_hash == secret, sessions.c.kind == kind)
            .returning(sessions.c.id, sessions.c.user_id)
        )
        row = (await self._connection.execute(statement)).one_or_none()
        if row is None:
            return None
        session_id, owner = row
        self._changed.add(owner)
        return session_id, owner

    async def end_own(self, session_id: UUID, user_id: UUID, *, personal: bool) -> bool:
        """Remove a personal access token or a login of this user; whether it was there."""
        named = sessions.c.name.is_not(None) if personal else sessions.c.name.is_(None)
        return await self._delete(sessions.c.id == session_id, _of(user_id), named) == 1

    async def end_all(
        self, user_id: UUID, *, keep: Collection[UUID] = (), logins_only: bool = False
    ) -> int:
        """Remove every session of this user but `keep`; how many they were."""
        conditions = [_of(user_id), sessions.c.id.not_in(keep)]
        if logins_only:
            conditions.append(sessions.c.name.is_(None))
        return await self._delete(*conditions)

    async def end_unused(self, user_id: UUID, *, leave: int, now: datetime) -> Sequence[UUID]:
        """Remove the live logins of this user but the `leave` used last; the ids of the others."""
        surplus = (
            sa.select(sessions.c.id)
            .where(_of(user_id), sessions.c.name.is_(None), _alive(now))
            .order_by(sessions.c.last_seen_at.desc(), sessions.c.id.desc())
            .offset(leave)
        )
        ended = (await self._connection.execute(surplus)).scalars().all()
        if ended:
            await self._delete(sessions.c.id.in_(ended))
        return ended

    async def count_personal(self, user_id: UUID, *, now: datetime) -> int:
        """How many personal access tokens of this user are alive."""
        statement = sa.select(sa.func.count()).where(
            _of(user_id), sessions.c.name.is_not(None), _alive(now)
        )
        return (await self._connection.execute(statement)).scalar_one()

    async def prune(self, *, now: datetime, grace: timedelta, limit: int) -> int:
        """Remove up to `limit` sessions that ended more than `grace` ago; how many they were.

        Those that another transaction holds are passed over, as in `saw`.
        """
        batch = sa.select(sessions.c.id).where(sessions.c.expires_at < now - grace).limit(limit)
        if self._connection.dialect.name == "postgresql":
            # Both clocks have to agree that it is over: ours may be wrong.
            batch = batch.where(sessions.c.expires_at < sa.func.now() - grace)
        ended = (
            (await self._connection.execute(batch.with_for_update(skip_locked=True)))
            .scalars()
            .all()
        )
        if ended:
            # No caller can be known by one of these any more, so there is nothing to announce.
            await self._connection.execute(sa.delete(sessions).where(sessions.c.id.in_(ended)))
        return len(ended)

    async def _among(self, statement: sa.Select[UUID], keys: Collection[UUID]) -> set[UUID]:
        return set((await self._connection.execute(statement, {"ids": list(keys)})).scalars())

    async def _one(
        self, statement: sa.Select[Any], values: Mapping[str, object]
    ) -> tuple[Session, User] | None:
        row = (await self._connection.execute(statement, values)).one_or_none()
        if row is None:
            return None
        return _session(row[: len(_COLUMNS)]), User(*row[len(_COLUMNS) :])

    async def _delete(self, *conditions: sa.ColumnElement[bool]) -> int:
        statement = sa.delete(sessions).where(*conditions).returning(sessions.c.user_id)
        owners = (await self._connection.execute(statement)).scalars().all()
        self._changed.update(owners)
        return len(owners)


def _of_family(family: SecretHash) -> sa.Select[Any]:
    joined = _WITH_USER.join(refresh_families, refresh_families.c.session_id == sessions.c.id)
    return joined.where(refresh_families.c.family_hash == family)


def _of(user_id: UUID) -> sa.ColumnElement[bool]:
    return sessions.c.user_id == user_id


def _alive(now: datetime) -> sa.ColumnElement[bool]:
    return (sessions.c.expires_at > now) & (
        sessions.c.idle_expires_at.is_(None) | (sessions.c.idle_expires_at > now)
    )


def _session(row: Sequence[Any]) -> Session:
    key, user_id, kind, name, scopes, created, seen, idle, expires, auth, *more = row
    amr, ip, agent, data, remembered = more
    return Session(
        id=key,
        user_id=user_id,
        kind=SessionKind(kind),
        name=name,
        scopes=None if scopes is None else frozenset(scopes),
        created_at=created,
        last_seen_at=seen,
        idle_expires_at=idle,
        expires_at=expires,
        auth_time=auth,
        amr=tuple(amr),
        client=Client(ip=ip, user_agent=agent),
        data=data,
        remembered=remembered,
    )
