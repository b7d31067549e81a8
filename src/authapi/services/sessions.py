"""Sessions: begun by a login, looked up on each request, listed and ended by their owner."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from authapi.clock import now
from authapi.crypto.ids import new_id
from authapi.crypto.passwords import PasswordHash
from authapi.crypto.refresh import RefreshToken
from authapi.crypto.secrets import SecretHash
from authapi.errors import (
    InputError,
    InvalidCredential,
    InvalidCredentials,
    InvalidInput,
    NotFound,
)
from authapi.identity import (
    EventType,
    Identity,
    Session,
    SessionKind,
    User,
    current_client,
)
from authapi.services.alive import lock_owners, require_alive
from authapi.services.audit import Audit
from authapi.services.background.pruning import prune
from authapi.services.callers import Activity, Coherence, Known, KnownCallers
from authapi.services.scopes import effective_scopes
from authapi.settings import Settings
from authapi.storage import Database, Store
from authapi.storage.conflicts import retried

_NONE, _SECOND = timedelta(0), timedelta(seconds=1)
_PRUNE_GRACE = timedelta(hours=1)
_UNDER_WAY = timedelta(minutes=1)
"""How long a request may be under way that was sent before a secret was replaced."""


@dataclass(frozen=True, slots=True)
class Login:
    """A password that was just proved: what a strategy turns into a credential."""

    user: User
    proved: PasswordHash = field(repr=False)
    """The hash that the password was proved against."""
    auth_time: datetime
    amr: tuple[str, ...] = ("pwd",)
    scopes: frozenset[str] | None = None
    """What the credential may do; None stands for all that a login of theirs may."""


@dataclass(frozen=True, slots=True)
class Lifetime:
    """How long a session lasts: `absolute` in any case, `idle` without use if it is not None."""

    absolute: timedelta
    idle: timedelta | None = None
    remembered: bool = False
    """Whether a browser is to keep it when it closes."""


class Sessions:
    """Login sessions of every kind."""

    def __init__(
        self,
        database: Database,
        known: KnownCallers,
        coherence: Coherence,
        activity: Activity,
        audit: Audit,
        settings: Settings,
    ) -> None:
        self._database = database
        self._known = known
        self._coherence = coherence
        self._activity = activity
        self._audit = audit
        self._settings = settings

    @retried
    async def begin(
        self,
        login: Login,
        kind: SessionKind,
        *,
        lifetime: Lifetime,
        secret: SecretHash | None = None,
        replaces: SecretHash | None = None,
        refresh: RefreshToken | None = None,
    ) -> Session:
        """Begin a session for a proved login; it holds the scopes of that.

        `secret` is the hash of what the caller will present; None where a signed token names the
        session. `replaces` is the secret of a session that the caller presented, which ends;
        `refresh` the first refresh token of this one. Beyond
        `max_sessions`, so do those logins of the account that were unused for the longest time.
        Raises InvalidCredentials if the account or its password changed since it was proved.
        """
        session = Session(
            id=new_id(),
            user_id=login.user.id,
            kind=kind,
            name=None,
            scopes=login.scopes,
            created_at=login.auth_time,
            last_seen_at=login.auth_time,
            idle_expires_at=None if lifetime.idle is None else login.auth_time + lifetime.idle,
            expires_at=login.auth_time + lifetime.absolute,
            auth_time=login.auth_time,
            amr=login.amr,
            client=current_client(),
            data={},
            remembered=lifetime.remembered,
        )
        async with self._database.transaction() as store:
            if replaces is not None:
                await lock_owners(store, login.user.id, replaces, kind)
            await _require_unchanged(store, login)
            if replaces is not None:
                replaced = await store.sessions.end_secret(replaces, kind)
                if replaced is not None:
                    # Of the last account in this browser: not always the one that logs in now.
                    replaced_id, owner = replaced
                    await self._ended(store, owner, replaced_id, because="replaced")
            for ended in await store.sessions.end_unused(
                session.user_id, leave=self._settings.max_sessions - 1, now=session.created_at
            ):
                await self._ended(store, session.user_id, ended, because="max_sessions")
            await store.sessions.add(session, secret, replaces=replaces)
            if refresh is not None:
                await store.refresh_families.add(
                    session.id, family=refresh.family_hash, current=refresh.hash
                )
            await self._audit.record(
                store,
                EventType.LOGIN,
                user_id=session.user_id,
                session_id=session.id,
                strategy=kind.value,
            )
        return session

    def recall(self, credential: SecretHash, *, strategy: str) -> Identity | None:
        """Who presented this credential a moment ago, at the cost of a look into memory.

        None says nothing of the credential: ask `identify_secret` or `identify_id` then.
        """
        if self._coherence.holds():
            known = self._known.recall(credential.digest)
            if known is not None and known.identity.strategy == strategy:
                return self._use(known)
        return None

    def _use(self, known: Known) -> Identity | None:
        at, noted = now(), known.noted_at
        # One that was seen within this second is not idle, and that it is seen again says nothing.
        if noted is not None and _NONE <= at - noted < _SECOND and at < known.expires_at:
            return known.identity
        if not self._saw(known, at):
            return None
        known.noted_at = at if known.idle is None or known.idle >= _SECOND else None
        return known.identity

    def number(self) -> int:
        """The number to read under: take it before anything that an identity rests on."""
        return self._known.number()

    async def identify_secret(
        self, secret: SecretHash, kind: SessionKind, *, strategy: str
    ) -> Identity | None:
        """Who holds this secret, or None if it is unknown or over: one statement.

        Raises InvalidCredential for that of a cookie which was replaced a moment ago, by a renewal
        or a login of the same browser: its holder may have the new one by now.
        """
        number, since = self.number(), now() - _UNDER_WAY
        async with self._database.read() as store:
            found, was_replaced = await store.sessions.find_presented(secret, kind, since=since)
        if was_replaced:
            raise InvalidCredential
        return self._identity(found, strategy, secret, number)

    async def identify_id(
        self,
        session_id: UUID,
        kind: SessionKind,
        *,
        user_id: UUID,
        strategy: str,
        credential: SecretHash,
        kid: str,
        expires_at: datetime,
        scopes: Collection[str],
        number: int,
    ) -> Identity | None:
        """The session of this user, or None if it is unknown or over: one statement.

        An id proves nothing: ask only with what a signature by the key `kid` has vouched for, which
        must not have been retired meanwhile. `credential` is the hash of what was signed: until
        `expires_at`, `recall` knows the caller by it. Of the scopes of the session, the caller has
        those that `scopes` names as well. `number` was taken before the signature was verified.
        """
        async with self._database.read() as store:
            found = await store.sessions.find_signed(session_id, kind, kid=kid)
        if found is not None and found[1].id != user_id:
            return None
        return self._identity(
            found, strategy, credential, number, expires_at=expires_at, scopes=scopes
        )

    async def list_of(self, user_id: UUID) -> Sequence[Session]:
        """The live logins of a user, the newest first: one statement."""
        at = now()
        async with self._database.read() as store:
            found = await store.sessions.list_of(user_id, personal=False, now=at)
        last_seen = self._activity.last_seen
        return [
            replace(session, last_seen_at=last_seen(session.id, session.last_seen_at))
            for session in found
        ]

    @retried
    async def logout(self, identity: Identity) -> None:
        """End the session that the caller came with. Nothing happens if it is over already."""
        if identity.session_id is None:
            return
        async with self._database.transaction() as store:
            if await store.sessions.end(identity.session_id):
                await self._audit.record(
                    store,
                    EventType.LOGOUT,
                    user_id=identity.user.id,
                    session_id=identity.session_id,
                    strategy=identity.strategy,
                )

    @retried
    async def end(self, session_id: UUID) -> int:
        """End one session of any account; 0 if it was over already, else 1."""
        async with self._database.transaction() as store:
            session = await store.sessions.lock(session_id)
            if session is None:
                return 0
            await store.sessions.end(session_id)
            await self._ended(store, session.user_id, session_id)
            return 1

    @retried
    async def end_own(self, session_id: UUID, caller: Identity) -> None:
        """End one login of the caller.

        Raises NotFound, also if it is somebody else's, InvalidCredential if the session of
        `caller` has ended.
        """
        user_id = caller.user.id
        async with self._database.transaction() as store:
            await store.users.lock(user_id)
            await require_alive(store, caller)
            if not await store.sessions.end_own(session_id, user_id, personal=False):
                raise NotFound
            await self._ended(store, user_id, session_id)

    @retried
    async def end_others(self, identity: Identity) -> int:
        """End every login of the caller but the one in use; how many they were.

        Raises InvalidCredential if that one has ended.
        """
        keep = () if identity.session_id is None else (identity.session_id,)
        async with self._database.transaction() as store:
            await store.users.lock(identity.user.id)
            await require_alive(store, identity)
            count = await store.sessions.end_all(identity.user.id, keep=keep, logins_only=True)
            await self._all_ended(store, identity.user.id, count)
            return count

    @retried
    async def end_all(self, user_id: UUID) -> int:
        """End everything of this user, personal access tokens too; how many they were."""
        async with self._database.transaction() as store:
            await store.users.lock(user_id)
            count = await store.sessions.end_all(user_id)
            await self._all_ended(store, user_id, count)
            return count

    async def data_of(self, session_id: UUID) -> Mapping[str, object]:
        """The data kept with a session. Raises NotFound if it has ended meanwhile."""
        async with self._database.read() as store:
            data = await store.sessions.find_data(session_id)
        if data is None:
            raise NotFound
        return data

    @retried
    async def merge_data(
        self, caller: Identity, changes: Mapping[str, object]
    ) -> Mapping[str, object]:
        """Merge `changes` into the data kept with the session of `caller`, and give the result.

        None removes a name; everything else replaces it. Raises InvalidInput if the result, as
        JSON, is longer than `session_data_bytes`; then nothing has changed. Raises
        InvalidCredential if the session has ended, NotFound if `caller` came without one.
        """
        async with self._database.transaction() as store:
            # The user is not locked first: this locks one row and waits for no other.
            session = await require_alive(store, caller)
            if session is None:
                raise NotFound
            merged = {**session.data, **changes}
            data = {name: value for name, value in merged.items() if value is not None}
            limit = self._settings.session_data_bytes
            if len(json.dumps(data, separators=(",", ":"), ensure_ascii=False).encode()) > limit:
                message = f"the data of a session may take {limit} bytes"
                raise InvalidInput(InputError(("body",), "session_data_too_large", message))
            await store.sessions.set_data(session.id, data)
        return data

    async def prune(self) -> int:
        """Remove sessions that ended an hour ago or longer, in small batches; how many.

        Leaves it to another process that is at it.
        """
        return await prune(
            self._database,
            "sessions",
            lambda store, limit: store.sessions.prune(now=now(), grace=_PRUNE_GRACE, limit=limit),
        )

    async def _ended(self, store: Store, user_id: UUID, session_id: UUID, **detail: str) -> None:
        about: dict[str, Any] = {"user_id": user_id, "session_id": session_id, **detail}
        await self._audit.record(store, EventType.SESSION_ENDED, **about)

    async def _all_ended(self, store: Store, user_id: UUID, count: int) -> None:
        if count:
            kind = EventType.SESSIONS_ENDED
            await self._audit.record(store, kind, user_id=user_id, count=count)

    def _identity(
        self,
        found: tuple[Session, User] | None,
        strategy: str,
        credential: SecretHash,
        number: int,
        *,
        expires_at: datetime | None = None,
        scopes: Collection[str] | None = None,
    ) -> Identity | None:
        if found is None:
            return None
        session, user = found
        held = effective_scopes(session.scopes, user, self._settings)
        ends = session.expires_at if expires_at is None else min(session.expires_at, expires_at)
        known = Known(
            identity=Identity(
                user=user,
                strategy=strategy,
                session_id=session.id,
                scopes=held if scopes is None else held.intersection(scopes),
                auth_time=session.auth_time,
                amr=session.amr,
                expires_at=ends,
                remembered=session.remembered,
            ),
            session_id=session.id,
            expires_at=ends,
            idle=session.idle,
            last_seen_at=session.last_seen_at,
        )
        if not self._saw(known, now()):
            return None
        self._known.remember(credential.digest, known, number=number)
        return known.identity

    def _saw(self, known: Known, at: datetime) -> bool:
        """Note a use, unless the session is over."""
        key, idle = known.session_id, known.idle
        if at >= known.expires_at or self._activity.is_idle(
            key, at, written=known.last_seen_at, idle=idle
        ):
            return False
        self._activity.saw(key, at, idle=idle)
        return True


async def _require_unchanged(store: Store, login: Login) -> None:
    # Between the proof and now somebody may have changed the password or deactivated the account,
    # and ended all sessions: a session that begins now would survive that.
    found = await store.users.lock(login.user.id)
    if found is None or not found[0].is_active or found[1] != login.proved:
        raise InvalidCredentials
