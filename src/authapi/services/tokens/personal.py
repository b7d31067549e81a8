"""Personal access tokens: made by their owner, named, with fewer scopes and a life of their own."""

from collections.abc import Collection, Sequence
from datetime import timedelta
from uuid import UUID

from authapi.clock import now
from authapi.crypto.ids import new_id
from authapi.crypto.secrets import hash_secret, new_opaque_token
from authapi.errors import InputError, InvalidInput, NotFound, TooManyTokens
from authapi.identity import EventType, Identity, Session, SessionKind, current_client
from authapi.services.alive import require_alive
from authapi.services.audit import Audit
from authapi.services.mail import Mail, Occasion
from authapi.services.scopes import effective_scopes
from authapi.settings import Settings
from authapi.storage import Database
from authapi.storage.conflicts import retried


class Tokens:
    """Personal access tokens."""

    def __init__(self, database: Database, audit: Audit, mail: Mail, settings: Settings) -> None:
        self._database = database
        self._audit = audit
        self._mail = mail
        self._settings = settings

    @retried
    async def create(
        self,
        owner: Identity,
        *,
        name: str,
        scopes: Collection[str] | None,
        lifetime: timedelta | None,
    ) -> tuple[Session, str]:
        """A new token and its secret, which is shown this once and kept nowhere.

        `scopes` must lie within those that `owner` holds, and None means all of them; where there
        are roles, also within those of the user, whoever asks for it; `lifetime`
        defaults to `personal_token_lifetime`. Nobody logged in with it, so its `amr` is empty and
        it never counts as fresh. Raises InvalidInput for a scope or lifetime that may not be,
        TooManyTokens beyond `max_personal_tokens`, InvalidCredential if the session of `owner` has
        ended, NotFound if the account is gone.
        """
        chosen = owner.scopes if scopes is None else frozenset(scopes)
        if not chosen <= owner.scopes:
            raise _not_held()
        longest = self._settings.personal_token_max_lifetime
        span = lifetime or self._settings.personal_token_lifetime
        if span > longest:
            message = f"at most {int(longest.total_seconds())} seconds"
            raise InvalidInput(InputError(("body", "expires_in"), "lifetime_too_long", message))
        secret, at = new_opaque_token(), now()
        token = Session(
            id=new_id(),
            user_id=owner.user.id,
            kind=SessionKind.TOKEN,
            name=name,
            scopes=chosen,
            created_at=at,
            last_seen_at=at,
            idle_expires_at=None,
            expires_at=at + span,
            auth_time=owner.auth_time,
            amr=(),
            client=current_client(),
            data={},
        )
        async with self._database.transaction() as store:
            found = await store.users.lock(owner.user.id)
            await require_alive(store, owner)
            if found is None or not found[0].is_active:
                raise NotFound
            if chosen != effective_scopes(chosen, found[0], self._settings):
                raise _not_held()
            held = await store.sessions.count_personal(owner.user.id, now=at)
            if held >= self._settings.max_personal_tokens:
                raise TooManyTokens
            await store.sessions.add(token, hash_secret(secret))
            await self._audit.record(
                store,
                EventType.TOKEN_CREATED,
                user_id=token.user_id,
                session_id=token.id,
                strategy=owner.strategy,
            )
            await self._mail.queue(store, Occasion.TOKEN_CREATED, found[0], token=name)
        return token, secret

    async def list_of(self, user_id: UUID) -> Sequence[Session]:
        """The live personal access tokens of a user, the newest first."""
        async with self._database.read() as store:
            return await store.sessions.list_of(user_id, personal=True, now=now())

    @retried
    async def end_own(self, token_id: UUID, caller: Identity) -> None:
        """End one token of the caller.

        Raises NotFound, also if it is somebody else's, InvalidCredential if the session of
        `caller` has ended.
        """
        user_id = caller.user.id
        async with self._database.transaction() as store:
            await store.users.lock(user_id)
            await require_alive(store, caller)
            if not await store.sessions.end_own(token_id, user_id, personal=True):
                raise NotFound
            await self._audit.record(
                store, EventType.TOKEN_ENDED, user_id=user_id, session_id=token_id
            )


def _not_held() -> InvalidInput:
    message = "names a scope that does not exist or that you do not hold"
    return InvalidInput(InputError(("body", "scopes"), "scope_not_allowed", message))
