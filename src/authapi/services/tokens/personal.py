"""Personal access tokens: named, long-lived tokens with scopes that their owner chooses."""

from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from uuid import UUID

from authapi.clock import now
from authapi.crypto.ids import new_id
from authapi.crypto.secrets import hash_secret, new_opaque_token
from authapi.domain.client import current_client
from authapi.domain.events import EventType
from authapi.domain.identity import Identity
from authapi.domain.scopes import effective_scopes
from authapi.domain.session import USED_FORMS, Session, SessionKind
from authapi.errors import (
    FormAlreadySent,
    InputError,
    InvalidInput,
    NotFound,
    TooManyTokens,
)
from authapi.services.audit import Audit
from authapi.services.hooks import Hooks
from authapi.services.mail import Mail, MailKind
from authapi.services.revalidation import require_live_session
from authapi.settings import Settings
from authapi.storage import Database, Store
from authapi.storage.database import retry_on_conflict

_MAX_USED_FORMS = 8
"""The forms that a session remembers."""


class PersonalTokens:
    """Personal access tokens. Calls raise StorageUnavailable if the database does not answer."""

    def __init__(
        self, database: Database, audit: Audit, mail: Mail, hooks: Hooks, settings: Settings
    ) -> None:
        self._database = database
        self._audit = audit
        self._hooks = hooks
        self._mail = mail
        self._settings = settings

    async def grantable_scopes(self, owner: Identity) -> frozenset[str]:
        """Returns the scopes that `owner` can give to a token."""
        own = await self._hooks.own_scopes(owner.user)
        return effective_scopes(owner.scopes, owner.user, self._settings, own, amr=())

    @retry_on_conflict
    async def create(
        self,
        owner: Identity,
        *,
        name: str,
        scopes: Collection[str] | None,
        lifetime: timedelta | None,
        form: str | None = None,
    ) -> tuple[Session, str]:
        """Creates a token; returns it with its secret, of which only the hash is stored.

        `scopes` is a subset of the scopes of `owner`, and of those of the roles of the user where
        the settings define roles; None means all scopes of `owner`. No token has the scopes of a
        role that requires a second factor. `lifetime` is at most the setting
        `personal_token_max_lifetime`, and `personal_token_lifetime` by default. The `amr` of the
        token is empty, so its use never counts as a fresh login. The owner gets a mail. `form` is
        the random id of a form, which makes one token in the session of `owner`.

        Raises FormAlreadySent if `form` has made one, InvalidInput if a scope or the lifetime is
        not allowed, TooManyTokens at the limit `max_personal_tokens`, InvalidCredential if the
        session of `owner` has ended, NotFound if the account is deleted or deactivated.
        """
        own = await self._hooks.own_scopes(owner.user)
        if scopes is None:
            granted = effective_scopes(owner.scopes, owner.user, self._settings, own, amr=())
        else:
            granted = frozenset(scopes)
        if not granted <= owner.scopes:
            raise _scope_not_allowed()
        max_lifetime = self._settings.personal_token_max_lifetime
        span = lifetime or self._settings.personal_token_lifetime
        if span > max_lifetime:
            message = f"at most {int(max_lifetime.total_seconds())} seconds"
            raise InvalidInput(InputError(("body", "expires_in"), "lifetime_too_long", message))
        secret, at = new_opaque_token(), now()
        token = Session(
            id=new_id(),
            user_id=owner.user.id,
            kind=SessionKind.TOKEN,
            name=name,
            scopes=granted,
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
            row = await store.users.lock(owner.user.id)
            session = await require_live_session(store, owner)
            if row is None or not row[0].is_active:
                raise NotFound
            if form is not None and session is not None:
                await _use_form(store, session, form)
            if granted != effective_scopes(granted, row[0], self._settings, own, amr=()):
                raise _scope_not_allowed()
            count = await store.sessions.count_personal(owner.user.id, now=at)
            if count >= self._settings.max_personal_tokens:
                raise TooManyTokens
            await store.sessions.add(token, hash_secret(secret))
            await self._audit.record(
                store,
                EventType.TOKEN_CREATED,
                user_id=token.user_id,
                session_id=token.id,
                strategy=owner.strategy,
                name=name,
            )
            await self._mail.queue(store, MailKind.TOKEN_CREATED, row[0], token=name)
        return token, secret

    async def list_of(self, user_id: UUID) -> Sequence[Session]:
        """Returns the unexpired personal access tokens of a user, newest first."""
        async with self._database.read() as store:
            return await store.sessions.list_for_user(user_id, personal=True, now=now())

    async def exists(self, token_id: UUID) -> bool:
        """Returns whether this is a personal access token of any user, and no login."""
        async with self._database.read() as store:
            found = await store.sessions.find_with_user(token_id)
        return found is not None and found[0].name is not None

    @retry_on_conflict
    async def end_own(self, token_id: UUID, caller: Identity) -> None:
        """Ends a token of the caller.

        Raises NotFound if the caller has no such token, InvalidCredential if the session of
        `caller` has ended.
        """
        user_id = caller.user.id
        async with self._database.transaction() as store:
            await store.users.lock(user_id)
            await require_live_session(store, caller)
            if not await store.sessions.end_for_user(token_id, user_id, personal=True):
                raise NotFound
            await self._audit.record(
                store, EventType.TOKEN_ENDED, user_id=user_id, session_id=token_id
            )


async def _use_form(store: Store, session: Session, form: str) -> None:
    """Stores that `form` was sent, in the data of its session. Raises FormAlreadySent."""
    stored = session.data.get(USED_FORMS)
    used = [item for item in stored if isinstance(item, str)] if isinstance(stored, list) else []
    if form in used:
        raise FormAlreadySent
    data: Mapping[str, object] = {**session.data, USED_FORMS: [*used, form][-_MAX_USED_FORMS:]}
    await store.sessions.set_data(session.id, data)


def _scope_not_allowed() -> InvalidInput:
    message = "includes a scope that does not exist or that you do not have"
    return InvalidInput(InputError(("body", "scopes"), "scope_not_allowed", message))
