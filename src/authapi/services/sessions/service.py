"""Sessions: created by a login, looked up by each request, listed and ended by their owner.

Each method that uses the database raises StorageUnavailable if it does not answer in time.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from authapi.clock import now
from authapi.crypto.ids import new_id
from authapi.crypto.refresh_tokens import RefreshToken
from authapi.crypto.secrets import SecretHash
from authapi.domain.client import current_client
from authapi.domain.events import EventType
from authapi.domain.federation.proof import FederatedProof
from authapi.domain.identity import Identity
from authapi.domain.scopes import effective_scopes
from authapi.domain.session import Session, SessionKind, size_of_data
from authapi.domain.user import User
from authapi.errors import InputError, InvalidCredential, InvalidInput, NotFound
from authapi.services.audit import Audit
from authapi.services.hooks import Hooks
from authapi.services.identity_cache import (
    CachedIdentity,
    CacheInvalidation,
    IdentityCache,
    LastUsed,
)
from authapi.services.jobs.pruning import prune_in_batches
from authapi.services.logins.proved import Login
from authapi.services.revalidation import (
    lock_session_owners,
    lock_unchanged_user,
    require_live_session,
)
from authapi.services.sessions.lifetime import Lifetime
from authapi.settings import Settings
from authapi.storage import Database, Store
from authapi.storage.database import retry_on_conflict

RecordLogin = Callable[[Store, User, Session, FederatedProof | None], Awaitable[None]]
"""Records the login of a user, who is locked, in the transaction that creates its session."""

_ZERO, _SECOND = timedelta(0), timedelta(seconds=1)
_PRUNE_GRACE = timedelta(hours=1)
_REPLACED_SECRET_GRACE = timedelta(minutes=1)
"""How long after its secret was replaced a request with the old one may still arrive."""


class Sessions:
    """Sessions of all kinds: cookies, opaque tokens, JWTs."""

    def __init__(
        self,
        database: Database,
        identity_cache: IdentityCache,
        invalidation: CacheInvalidation,
        last_used: LastUsed,
        record_login: RecordLogin,
        audit: Audit,
        hooks: Hooks,
        settings: Settings,
    ) -> None:
        self._database = database
        self._identity_cache = identity_cache
        self._invalidation = invalidation
        self._last_used = last_used
        self._record_login = record_login
        self._audit = audit
        self._hooks = hooks
        self._settings = settings

    @retry_on_conflict
    async def create(
        self,
        login: Login,
        kind: SessionKind,
        *,
        lifetime: Lifetime,
        secret: SecretHash | None = None,
        replaces: SecretHash | None = None,
        refresh: RefreshToken | None = None,
    ) -> Session:
        """Creates a session for a login, with the scopes of that login.

        `secret` is the hash of the credential; None if a signed token identifies the session.
        `replaces` is the hash of the secret that the browser sent with the login: its session ends.
        `refresh` is the first refresh token of the session. If the account then has more than
        `max_sessions` logins, the least recently used ones end.

        Raises InvalidCredentials if the account or its credentials changed since the first factor
        was verified; LoginExpired or SecondFactorRefused if its second factor is used up.
        """
        at = login.auth_time if login.federated is None else now()  # a provider's may be long ago
        session = Session(
            id=new_id(),
            user_id=login.user.id,
            kind=kind,
            name=None,
            scopes=login.scopes,
            created_at=at,
            last_seen_at=at,
            idle_expires_at=None if lifetime.idle is None else at + lifetime.idle,
            expires_at=at + lifetime.absolute,
            auth_time=login.auth_time,
            amr=login.amr,
            client=current_client(),
            data={},
            remembered=lifetime.remembered,
            mfa_at=login.mfa_at,
        )
        use = login.second_factor
        async with self._database.transaction() as store:
            if replaces is not None:
                await lock_session_owners(store, login.user.id, replaces, kind)
            user = await lock_unchanged_user(store, login.user.id, login.credentials_version)
            if use and use.ends_logins:
                await store.sessions.end_all(user.id, logins_only=True)
            if replaces is not None:
                replaced = await store.sessions.end_by_secret(replaces, kind)
                if replaced is not None:
                    # The session may be of another account, which used this browser before.
                    replaced_id, owner = replaced
                    await self._record_end(store, owner, replaced_id, because="replaced")
            for ended in await store.sessions.end_least_recently_used(
                session.user_id, keep=self._settings.max_sessions - 1, now=session.created_at
            ):
                await self._record_end(store, session.user_id, ended, because="max_sessions")
            await store.sessions.add(session, secret, replaces=replaces)
            if refresh is not None:
                await store.refresh_families.add(
                    session.id, family=refresh.family_hash, current=refresh.hash
                )
            if use is not None:
                await use.apply(store)
            await self._record_login(store, user, session, login.federated)
        if use is not None:
            use.is_applied = True
        return session

    def get_cached(self, credential: SecretHash, *, strategy: str) -> Identity | None:
        """Returns the cached identity of a credential, without a query.

        Returns None if the credential is not in the cache, which does not mean that it is invalid:
        call `identify_by_secret` or `identify_by_id` then.
        """
        if self._invalidation.is_current():
            cached = self._identity_cache.get(credential.digest)
            if cached is not None and cached.identity.strategy == strategy:
                return self._use(cached)
        return None

    def _use(self, cached: CachedIdentity) -> Identity | None:
        at, recorded = now(), cached.recorded_at
        # A session that was used within this second is not idle, and a further use in this second
        # need not be recorded.
        if recorded is not None and _ZERO <= at - recorded < _SECOND and at < cached.expires_at:
            return cached.identity
        if not self._record_use(cached, at):
            return None
        cached.recorded_at = at if cached.idle is None or cached.idle >= _SECOND else None
        return cached.identity

    def snapshot(self) -> int:
        """Returns the state of the identity cache, for `identify_by_id`.

        Take the snapshot before reading anything that the identity depends on. Otherwise, a change
        made in between would not remove the identity from the cache.
        """
        return self._identity_cache.snapshot()

    async def identify_by_secret(
        self, secret: SecretHash, kind: SessionKind, *, strategy: str
    ) -> Identity | None:
        """Returns the identity of the session with this secret, in one statement.

        Returns None if there is no such session or it has ended. Raises InvalidCredential if the
        secret is that of a cookie which was replaced within the last minute, by a renewal or a
        login of the same browser: the browser may have the new cookie by now.
        """
        snapshot, since = self.snapshot(), now() - _REPLACED_SECRET_GRACE
        lookups = self._database.sessions
        row, was_replaced = await lookups.find_by_current_or_previous_secret(
            secret, kind, since=since
        )
        if was_replaced:
            raise InvalidCredential
        return await self._identity(row, strategy, secret, snapshot)

    async def identify_by_id(
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
        snapshot: int,
    ) -> Identity | None:
        """Returns the identity of the session with this id and user, in one statement.

        An id alone proves nothing: call this only with claims of a token whose signature by the key
        `kid` was verified. Returns None if there is no such session, it has ended, or the key has
        been retired. `credential` is the hash of the token, for `get_cached`; `expires_at` is the
        expiry of the token. The identity has the scopes of the session that are also in `scopes`.
        `snapshot` was taken before the signature was verified.
        """
        row = await self._database.sessions.find_by_signed_id(session_id, kind, kid=kid)
        if row is not None and row[1].id != user_id:
            return None
        return await self._identity(
            row, strategy, credential, snapshot, expires_at=expires_at, scopes=scopes, kid=kid
        )

    async def list_for_user(self, user_id: UUID) -> Sequence[Session]:
        """Returns the live logins of a user, newest first, in one statement."""
        at = now()
        async with self._database.read() as store:
            sessions = await store.sessions.list_for_user(user_id, personal=False, now=at)
        last_seen = self._last_used.last_seen
        return [
            replace(session, last_seen_at=last_seen(session.id, session.last_seen_at))
            for session in sessions
        ]

    @retry_on_conflict
    async def logout(self, identity: Identity) -> None:
        """Ends the session of the caller. Does nothing if it has ended already."""
        if identity.session_id is None:
            return
        async with self._database.transaction() as store:
            if await store.sessions.end(identity.session_id):
                owner, ended = identity.user.id, identity.session_id
                by: dict[str, Any] = {"session_id": ended, "strategy": identity.strategy}
                await self._audit.record(store, EventType.LOGOUT, user_id=owner, **by)

    @retry_on_conflict
    async def end(self, session_id: UUID) -> int:
        """Ends a login or token of any account. Returns 1, or 0 if there is no such session."""
        async with self._database.transaction() as store:
            session = await store.sessions.lock(session_id)
            if session is None:
                return 0
            await store.sessions.end(session_id)
            # Only personal access tokens have a name.
            kind = EventType.SESSION_ENDED if session.name is None else EventType.TOKEN_ENDED
            await self._audit.record(store, kind, user_id=session.user_id, session_id=session_id)
            return 1

    @retry_on_conflict
    async def end_own(self, session_id: UUID, caller: Identity) -> None:
        """Ends one login of the caller.

        Raises NotFound if there is no such login or it belongs to another user, InvalidCredential
        if the session of the caller has ended.
        """
        user_id = caller.user.id
        async with self._database.transaction() as store:
            await store.users.lock(user_id)
            await require_live_session(store, caller)
            if not await store.sessions.end_for_user(session_id, user_id, personal=False):
                raise NotFound
            await self._record_end(store, user_id, session_id)

    @retry_on_conflict
    async def end_others(self, identity: Identity) -> int:
        """Ends all logins of the caller except the current one. Returns how many have ended.

        Raises InvalidCredential if the current one has ended.
        """
        keep = () if identity.session_id is None else (identity.session_id,)
        async with self._database.transaction() as store:
            await store.users.lock(identity.user.id)
            await require_live_session(store, identity)
            count = await store.sessions.end_all(identity.user.id, keep=keep, logins_only=True)
            await store.login_tickets.end_all(identity.user.id)
            await self._record_ends(store, identity.user.id, count)
            return count

    @retry_on_conflict
    async def end_all(self, user_id: UUID) -> int:
        """Ends all logins and personal access tokens of a user. Returns how many have ended."""
        async with self._database.transaction() as store:
            await store.users.lock(user_id)
            count = await store.sessions.end_all(user_id)
            await store.login_tickets.end_all(user_id)
            await self._record_ends(store, user_id, count)
            return count

    async def get_data(self, session_id: UUID) -> Mapping[str, object]:
        """Returns the data stored with a session. Raises NotFound if the session has ended."""
        async with self._database.read() as store:
            data = await store.sessions.find_data(session_id)
        if data is None:
            raise NotFound
        return data

    @retry_on_conflict
    async def merge_data(
        self, caller: Identity, changes: Mapping[str, object]
    ) -> Mapping[str, object]:
        """Merges `changes` into the data stored with the session of `caller`. Returns the result.

        A value of None removes its key; any other value replaces it. Raises InvalidInput, and
        changes nothing, if the result exceeds `session_data_bytes` (`size_of_data`). Raises
        InvalidCredential if the session has ended, NotFound if the credential of `caller` has no
        session.
        """
        async with self._database.transaction() as store:
            # No lock on the user is needed: only one row is locked, so no deadlock is possible.
            session = await require_live_session(store, caller)
            if session is None:
                raise NotFound
            merged = {**session.data, **changes}
            data = {name: value for name, value in merged.items() if value is not None}
            limit = self._settings.session_data_bytes
            if size_of_data(data) > limit:
                message = f"the data of a session must not exceed {limit} bytes"
                raise InvalidInput(InputError(("body",), "session_data_too_large", message))
            await store.sessions.set_data(session.id, data)
        return data

    async def prune(self) -> int:
        """Deletes sessions that ended at least one hour ago, in small batches. Returns how many.

        Returns 0 if another process is deleting sessions.
        """
        return await prune_in_batches(
            self._database,
            "sessions",
            lambda store, limit: store.sessions.prune(now=now(), grace=_PRUNE_GRACE, limit=limit),
        )

    async def _record_end(
        self, store: Store, user_id: UUID, session_id: UUID, **detail: str
    ) -> None:
        fields: dict[str, Any] = {"user_id": user_id, "session_id": session_id, **detail}
        await self._audit.record(store, EventType.SESSION_ENDED, **fields)

    async def _record_ends(self, store: Store, user_id: UUID, count: int) -> None:
        if count:
            kind = EventType.SESSIONS_ENDED
            await self._audit.record(store, kind, user_id=user_id, count=count)

    async def _identity(
        self,
        row: tuple[Session, User] | None,
        strategy: str,
        credential: SecretHash,
        snapshot: int,
        *,
        expires_at: datetime | None = None,
        scopes: Collection[str] | None = None,
        kid: str | None = None,
    ) -> Identity | None:
        if row is None:
            return None
        session, user = row
        own = await self._hooks.own_scopes(user) if self._hooks.adds_scopes else None
        granted = effective_scopes(session.scopes, user, self._settings, own, amr=session.amr)
        end = session.expires_at if expires_at is None else min(session.expires_at, expires_at)
        cached = CachedIdentity(
            identity=Identity(
                user=user,
                strategy=strategy,
                session_id=session.id,
                scopes=granted if scopes is None else granted.intersection(scopes),
                auth_time=session.auth_time,
                amr=session.amr,
                expires_at=end,
                key_id=kid,
                remembered=session.remembered,
                mfa_at=session.mfa_at,
            ),
            session_id=session.id,
            expires_at=end,
            idle=session.idle,
            last_seen_at=session.last_seen_at,
        )
        if not self._record_use(cached, now()):
            return None
        self._identity_cache.put(credential.digest, cached, snapshot=snapshot)
        return cached.identity

    def _record_use(self, cached: CachedIdentity, at: datetime) -> bool:
        """Records a use. Returns False, and records nothing, if the session has ended."""
        key, idle = cached.session_id, cached.idle
        if at >= cached.expires_at or self._last_used.is_idle(
            key, at, stored=cached.last_seen_at, idle=idle
        ):
            return False
        self._last_used.record(key, at, idle=idle)
        return True
