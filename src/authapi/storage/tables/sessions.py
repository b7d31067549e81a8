"""Queries on `sessions`."""

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from authapi.crypto.secrets import SecretHash
from authapi.domain.client import Client
from authapi.domain.session import Session, SessionKind
from authapi.domain.user import User
from authapi.storage.models import Tables
from authapi.storage.tables.session_statements import COLUMNS, expired, session_statements

Rows = Callable[[sa.Select[Any], Mapping[str, object]], Awaitable[Sequence[Any]]]
"""Returns the rows of a query with bound parameters."""


class SessionLookups:
    """The look-ups of a session with its user by what a caller presents."""

    def __init__(self, rows: Rows, tables: Tables) -> None:
        self._rows, self._statements = rows, session_statements(tables)

    async def find_by_secret(
        self, secret: SecretHash, kind: SessionKind
    ) -> tuple[Session, User] | None:
        """Returns the session with this secret and its user, or None. One statement."""
        return await self._one(self._statements.by_secret, {"secret": secret, "kind": kind})

    async def find_by_current_or_previous_secret(
        self, secret: SecretHash, kind: SessionKind, *, since: datetime
    ) -> tuple[tuple[Session, User] | None, bool]:
        """Returns the session with this secret and its user, or None. One statement.

        The Boolean is True if there is no such session, but the secret is the previous one of a
        cookie session whose secret was replaced after `since`.
        """
        if kind is not SessionKind.SESSION:
            return await self.find_by_secret(secret, kind), False
        values = {"secret": secret, "kind": kind, "since": since}
        rows = await self._rows(self._statements.by_current_or_previous, values)
        for row in rows:
            if row[-1]:
                return session_and_user(row[:-1]), False
        return None, bool(rows)

    async def find_with_user(self, session_id: UUID) -> tuple[Session, User] | None:
        """Returns the session with this id and its user, or None. One statement."""
        return await self._one(self._statements.by_id, {"id": session_id})

    async def find_by_family(self, family: SecretHash) -> tuple[Session, User] | None:
        """Returns the session of this refresh family and its user, or None. One statement."""
        return await self._one(self._statements.by_family, {"family": family})

    async def find_by_signed_id(
        self, session_id: UUID, kind: SessionKind | None, *, kid: str
    ) -> tuple[Session, User] | None:
        """Returns `find_with_user`, or None if the key `kid` was deleted. One statement.

        `kid` is the key that signed the id. With `kind`, only a session of that kind.
        """
        if kind is None:
            return await self._one(self._statements.by_signed_id, {"id": session_id, "kid": kid})
        values = {"id": session_id, "kind": kind, "kid": kid}
        return await self._one(self._statements.by_signed_id_and_kind, values)

    async def _one(
        self, statement: sa.Select[Any], values: Mapping[str, object]
    ) -> tuple[Session, User] | None:
        rows = await self._rows(statement, values)  # secrets and ids are unique
        return session_and_user(rows[0]) if rows else None


class SessionTable(SessionLookups):
    """The sessions of every kind, inside one transaction.

    Every method that changes how a session authenticates adds its user to the changed users of the
    transaction.
    """

    def __init__(self, connection: AsyncConnection, tables: Tables, changed: set[UUID]) -> None:
        super().__init__(self._all, tables)
        self._connection = connection
        self._sessions = tables.sessions
        self._changed = changed

    async def add(
        self, session: Session, secret: SecretHash | None, *, replaces: SecretHash | None = None
    ) -> None:
        """Inserts `session`. It is looked up by the hash of its secret, or by its id without one.

        `replaces` is the hash of the secret that the client used before.
        """
        await self._connection.execute(
            sa.insert(self._sessions).values(
                id=session.id,
                user_id=session.user_id,
                kind=session.kind,
                secret_hash=secret,
                name=session.name,
                # JSON's null for a login: all scopes of the user.
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
                previous_secret_hash=replaces,
                mfa_at=session.mfa_at,
            )
        )

    async def lock(self, session_id: UUID) -> Session | None:
        """Locks the session against other writers until the commit, and returns it, or None."""
        statement = (
            sa.select(*self._statements.columns)
            .where(self._sessions.c.id == session_id)
            .with_for_update()
        )
        row = (await self._connection.execute(statement)).one_or_none()
        return None if row is None else _session(row)

    async def lock_for_user(self, user_id: UUID) -> None:
        """Locks every session of this user until the commit. The user must be locked already."""
        key = self._sessions.c.id
        statement = sa.select(key).where(self._of(user_id)).order_by(key)
        await self._connection.execute(statement.with_for_update())

    async def lock_by_family(self, family: SecretHash) -> tuple[Session, User] | None:
        """Locks the session of this refresh family until the commit; returns `find_by_family`."""
        statement = self._statements.by_family.with_for_update(of=self._sessions)
        return await self._one(statement, {"family": family})

    async def find_owner_by_secret(self, secret: SecretHash, kind: SessionKind) -> UUID | None:
        """Returns the id of the user whose session has this secret, or None."""
        statement = sa.select(self._sessions.c.user_id).where(
            self._sessions.c.secret_hash == secret, self._sessions.c.kind == kind
        )
        return (await self._connection.execute(statement)).scalar_one_or_none()

    async def find_owner_by_id(self, session_id: UUID) -> UUID | None:
        """Returns the id of the user whose session has this id, or None."""
        statement = sa.select(self._sessions.c.user_id).where(self._sessions.c.id == session_id)
        return (await self._connection.execute(statement)).scalar_one_or_none()

    async def revoked_jwts(self, session_id: UUID) -> dict[str, float]:
        """Returns the revoked JWTs of this session: their `exp` as NumericDate, by `jti`."""
        column = self._sessions.c.revoked_jwts
        statement = sa.select(column).where(self._sessions.c.id == session_id)
        return dict((await self._connection.execute(statement)).scalar_one_or_none() or {})

    async def set_revoked_jwts(self, session_id: UUID, jwts: Mapping[str, float]) -> None:
        """Replaces the revoked JWTs of this session, in the form of `revoked_jwts`."""
        await self._connection.execute(
            sa.update(self._sessions)
            .where(self._sessions.c.id == session_id)
            .values(revoked_jwts=dict(jwts))
        )

    async def find_data(self, session_id: UUID) -> Mapping[str, object] | None:
        """Returns the data of the session, or None if there is no such session."""
        statement = sa.select(self._sessions.c.data).where(self._sessions.c.id == session_id)
        return (await self._connection.execute(statement)).scalar_one_or_none()

    async def list_for_user(
        self, user_id: UUID, *, personal: bool, now: datetime, limit: int = 1000
    ) -> Sequence[Session]:
        """Returns up to `limit` sessions of a user that are not expired at `now`, the newest first.

        With `personal`, these are personal access tokens, otherwise logins.
        """
        statement = (
            sa.select(*self._statements.columns)
            .where(self._of(user_id), self._is_personal(personal), self._is_live(now))
            .order_by(self._sessions.c.id.desc())
            .limit(limit)
        )
        return [_session(row) for row in await self._connection.execute(statement)]

    async def set_data(self, session_id: UUID, data: Mapping[str, object]) -> None:
        """Replaces the data of a session."""
        await self._connection.execute(
            sa.update(self._sessions)
            .where(self._sessions.c.id == session_id)
            .values(data=dict(data))
        )

    async def replace_secret(
        self, session_id: UUID, secret: SecretHash, *, auth_time: datetime
    ) -> None:
        """Replaces the secret of a session, whose user authenticated at `auth_time`."""
        previous = self._sessions.c.secret_hash
        values = {"secret_hash": secret, "previous_secret_hash": previous, "auth_time": auth_time}
        await self._update(values, self._sessions.c.id == session_id)

    async def set_auth_time(self, session_id: UUID, *, auth_time: datetime) -> None:
        """Sets the time at which the user last authenticated in this session."""
        await self._update({"auth_time": auth_time}, self._sessions.c.id == session_id)

    async def set_mfa(
        self,
        session_id: UUID,
        *,
        mfa_at: datetime,
        amr: Collection[str],
        secret: SecretHash | None = None,
    ) -> None:
        """Sets when the user proved a second factor, and all methods that the session has proved.

        `secret` replaces that of the session; None keeps it.
        """
        values: dict[str, object] = {"mfa_at": mfa_at, "amr": list(amr)}
        if secret is not None:
            previous = self._sessions.c.secret_hash
            values |= {"secret_hash": secret, "previous_secret_hash": previous}
        await self._update(values, self._sessions.c.id == session_id)

    async def limit_expiry(self, session_id: UUID, moment: datetime) -> None:
        """Makes a session expire at `moment`, unless it expires earlier."""
        await self._update(
            {"expires_at": moment},
            self._sessions.c.id == session_id,
            self._sessions.c.expires_at > moment,
        )

    async def record_uses(
        self, seen: Iterable[tuple[UUID, datetime, datetime | None]]
    ) -> set[UUID]:
        """Stores uses of sessions: (session id, time of use, new idle expiry).

        Ignores a use that is older than the stored one. Does not wait for other transactions: on
        PostgreSQL it skips sessions that another transaction has locked, and returns their ids.
        It locks sessions of many users without their users, so waiting for one could deadlock.
        """
        uses = {key: (at, idle) for key, at, idle in seen}
        keys, busy = set(uses), set[UUID]()
        if keys and self._connection.dialect.name == "postgresql":
            locked = await self._select_ids(self._statements.lock_unlocked, keys)
            if skipped := keys - locked:
                # The others were deleted.
                busy = await self._select_ids(self._statements.existing, skipped)
            keys = locked
        if keys:
            await self._connection.execute(
                self._statements.record_use,
                [{"b_id": k, "b_at": uses[k][0], "b_idle": uses[k][1]} for k in sorted(keys)],
            )
        return busy

    async def end(self, session_id: UUID) -> bool:
        """Deletes a session. Returns False if there was none."""
        return await self._delete(self._sessions.c.id == session_id) == 1

    async def end_by_secret(
        self, secret: SecretHash, kind: SessionKind
    ) -> tuple[UUID, UUID] | None:
        """Deletes the session with this secret. Returns its id and its user's id, or None."""
        statement = (
            sa.delete(self._sessions)
            .where(self._sessions.c.secret_hash == secret, self._sessions.c.kind == kind)
            .returning(self._sessions.c.id, self._sessions.c.user_id)
        )
        row = (await self._connection.execute(statement)).one_or_none()
        if row is None:
            return None
        self._changed.add(row.user_id)
        return row.id, row.user_id

    async def end_for_user(self, session_id: UUID, user_id: UUID, *, personal: bool) -> bool:
        """Deletes a personal access token or a login of this user.

        Returns False if the user has no such session, or if it is of the other sort.
        """
        conditions = (
            self._sessions.c.id == session_id,
            self._of(user_id),
            self._is_personal(personal),
        )
        return await self._delete(*conditions) == 1

    async def end_all(
        self, user_id: UUID, *, keep: Collection[UUID] = (), logins_only: bool = False
    ) -> int:
        """Deletes every session of this user except `keep`. Returns their number.

        With `logins_only`, personal access tokens are not deleted.
        """
        conditions = [self._of(user_id), self._sessions.c.id.not_in(keep)]
        if logins_only:
            conditions.append(self._sessions.c.name.is_(None))
        return await self._delete(*conditions)

    async def end_least_recently_used(
        self, user_id: UUID, *, keep: int, now: datetime
    ) -> Sequence[UUID]:
        """Deletes the live logins of this user except the `keep` most recently used ones.

        Returns the ids of the deleted logins.
        """
        surplus = (
            sa.select(self._sessions.c.id)
            .where(self._of(user_id), self._sessions.c.name.is_(None), self._is_live(now))
            .order_by(self._sessions.c.last_seen_at.desc(), self._sessions.c.id.desc())
            .offset(keep)
        )
        ended = (await self._connection.execute(surplus)).scalars().all()
        if ended:
            await self._delete(self._sessions.c.id.in_(ended))
        return ended

    async def count_personal(self, user_id: UUID, *, now: datetime) -> int:
        """Returns the number of personal access tokens of this user that are not expired."""
        statement = sa.select(sa.func.count()).where(
            self._of(user_id), self._sessions.c.name.is_not(None), self._is_live(now)
        )
        return (await self._connection.execute(statement)).scalar_one()

    async def prune(self, *, now: datetime, grace: timedelta, limit: int) -> int:
        """Deletes up to `limit` sessions that expired more than `grace` ago. Returns their number.

        Skips sessions that another transaction has locked, as `record_uses` does.
        """
        dialect = self._connection.dialect.name
        batch = expired(self._sessions, dialect, now=now, grace=grace, limit=limit)
        if ended := (await self._connection.execute(batch)).scalars().all():
            # No identity of these sessions is cached any more, so no notification is needed.
            await self._connection.execute(
                sa.delete(self._sessions).where(self._sessions.c.id.in_(ended))
            )
        return len(ended)

    async def _select_ids(self, statement: sa.Select[UUID], ids: Collection[UUID]) -> set[UUID]:
        return set((await self._connection.execute(statement, {"ids": list(ids)})).scalars())

    async def _all(self, query: sa.Select[Any], values: Mapping[str, object]) -> Sequence[Any]:
        rows: Sequence[Any] = (await self._connection.execute(query, values)).all()
        return rows

    async def _update(
        self, values: Mapping[str, object], *conditions: sa.ColumnElement[bool]
    ) -> None:
        statement = sa.update(self._sessions).where(*conditions).values(values)
        owners = await self._connection.execute(statement.returning(self._sessions.c.user_id))
        self._changed.update(owners.scalars())

    async def _delete(self, *conditions: sa.ColumnElement[bool]) -> int:
        statement = sa.delete(self._sessions).where(*conditions).returning(self._sessions.c.user_id)
        owners = (await self._connection.execute(statement)).scalars().all()
        self._changed.update(owners)
        return len(owners)

    def _of(self, user_id: UUID) -> sa.ColumnElement[bool]:
        return self._sessions.c.user_id == user_id

    def _is_personal(self, personal: bool) -> sa.ColumnElement[bool]:
        # Only personal access tokens have a name.
        name = self._sessions.c.name
        return name.is_not(None) if personal else name.is_(None)

    def _is_live(self, now: datetime) -> sa.ColumnElement[bool]:
        idle = self._sessions.c.idle_expires_at
        return (self._sessions.c.expires_at > now) & (idle.is_(None) | (idle > now))


def session_and_user(row: Sequence[Any]) -> tuple[Session, User]:
    """Returns what a row of a statement with users has."""
    return _session(row[: len(COLUMNS)]), User(*row[len(COLUMNS) :])


def _session(row: Sequence[Any]) -> Session:
    key, user_id, kind, name, scopes, created, seen, idle, expires, auth, *rest = row
    amr, ip, agent, data, remembered, mfa_at = rest
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
        mfa_at=mfa_at,
    )
