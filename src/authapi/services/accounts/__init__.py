"""Accounts: registered, proved by password, changed and removed."""

import logging
from collections.abc import Callable, Mapping, Sequence
from uuid import UUID

from authapi.clock import now
from authapi.crypto.password_text import opaque_string
from authapi.crypto.passwords import PasswordHash
from authapi.crypto.secrets import SecretHash
from authapi.errors import (
    InputError,
    InvalidCredentials,
    InvalidInput,
    NotFound,
    PasswordMismatch,
    PreconditionFailed,
    Unavailable,
    WrongPassword,
)
from authapi.identity import (
    Client,
    EventType,
    Identity,
    SessionKind,
    User,
    current_client,
    on_behalf_of,
)
from authapi.services.accounts import standing
from authapi.services.accounts.changes import (
    MOMENT,
    add_user,
    after,
    check_locale,
    locked,
    new_user,
)
from authapi.services.accounts.proof import PasswordProof, at_home
from authapi.services.addresses import EmailAddress, parse_email
from authapi.services.alive import require_alive
from authapi.services.audit import Audit
from authapi.services.mail import Mail, Occasion
from authapi.services.passwords import Passwords
from authapi.services.sessions import Login
from authapi.services.throttle import Throttle
from authapi.settings import Settings
from authapi.storage import Database
from authapi.storage.conflicts import retried

_log = logging.getLogger(__name__)


class Accounts:
    """Accounts, and the proof that a caller owns one."""

    def __init__(
        self,
        database: Database,
        passwords: Passwords,
        proof: PasswordProof,
        throttle: Throttle,
        audit: Audit,
        mail: Mail,
        settings: Settings,
    ) -> None:
        self._database = database
        self._passwords = passwords
        self._proof = proof
        self._throttle = throttle
        self._audit = audit
        self._mail = mail
        self._settings = settings

    async def create(
        self,
        email: EmailAddress,
        password: str | None,
        *,
        name: str | None = None,
        is_superuser: bool = False,
    ) -> User:
        """A new account, made by an operator. Without a password nobody can log in to it.

        Raises InvalidInput for a password that may not be chosen, EmailTaken.
        """
        stored = None
        if password is not None:
            await self._passwords.check_new(password, email=email.canonical)
            stored = await self._passwords.hash(password)
        user = new_user(email, name=name, is_superuser=is_superuser)
        async with self._database.transaction() as store:
            await store.users.wait_for_addresses(email.canonical)
            await add_user(store, user, email, stored)
            await self._audit.record(store, EventType.ACCOUNT_REGISTERED, user_id=user.id)
        return user

    async def prove(
        self, email: EmailAddress, password: str, *, strategy: str | None = None
    ) -> Login:
        """A login, if the password belongs to the address; else InvalidCredentials.

        An unknown address, an account without password, a deactivated one and, where registration
        asks for that, one that is not confirmed cost the same work and give the same error. No
        connection is held while the password is hashed. Raises TooManyAttempts, before any of that,
        where guessing is suspected. `strategy` is what the login is for, and goes into the event of
        a refusal.
        """
        client = current_client()
        home = at_home(self._database, email.canonical, client)
        async with (
            self._audit.throttling(email.canonical),
            self._throttle.attempt(email.canonical, client, at_home=home),
        ):
            return await self._prove(email, password, strategy)

    async def _prove(self, email: EmailAddress, password: str, strategy: str | None) -> Login:
        async with self._database.read() as store:
            found = await store.users.find_credentials_by_email(email.canonical)
        user, stored = found or (None, None)
        try:
            await self._passwords.verify(password, stored)
        except PasswordMismatch:
            stored = None
        if user is None or stored is None or not self._may_log_in(user):
            await self._audit.record_alone(
                EventType.LOGIN_REFUSED, user_id=user.id if user else None, strategy=strategy
            )
            raise InvalidCredentials
        proved = await self._strengthen(user, password, stored)
        return Login(user=user, proved=proved, auth_time=now())

    def _may_log_in(self, user: User) -> bool:
        confirmed = user.email_confirmed_at is not None
        return user.is_active and (confirmed or self._settings.registration != "confirm")

    async def change_password(
        self, identity: Identity, *, current: str, new: str, renewed: SecretHash | None
    ) -> None:
        """Change the caller's password, and end everything of theirs but the session in use.

        `renewed` is another secret for that session, so that whoever had copied the old one is out;
        with it, the session counts as freshly logged in. Raises InvalidInput for a new password
        that may not be chosen, WrongPassword, InvalidCredential if that session has ended.
        """
        account = parse_email(identity.user.email).canonical
        await self._passwords.check_new(new, field="new_password", email=account)
        stored = await self._proof.require(
            identity.user,
            current,
            caller=identity,
            refusal=EventType.PASSWORD_CHANGE_REFUSED,
        )
        if opaque_string(new) == opaque_string(current):
            message = "must differ from the current password"
            raise InvalidInput(InputError(("body", "new_password"), "password_unchanged", message))
        replacement = await self._passwords.hash(new)
        async with self._database.transaction() as store:
            user, latest = await locked(store, identity.user.id)
            if latest != stored:
                # Somebody changed it while we were hashing: what was proved is no longer true.
                raise WrongPassword
            session = await require_alive(store, identity)
            await store.users.set_password(user.id, replacement, at=after(user))
            keep = () if identity.session_id is None else (identity.session_id,)
            await store.sessions.end_all(user.id, keep=keep)
            await store.refresh_families.end_of(user.id)
            if session is not None and session.kind is SessionKind.JWT:
                # Nothing can renew it any more: it ends with the access token in hand.
                await store.sessions.end_at(session.id, now() + self._settings.jwt_lifetime)
            if renewed is not None and identity.session_id is not None:
                # Later than before in any case: it tells the two secrets apart (`require_alive`).
                at = max(now(), identity.auth_time + MOMENT)
                await store.sessions.replace_secret(identity.session_id, renewed, auth_time=at)
            await self._audit.record(
                store,
                EventType.PASSWORD_CHANGED,
                user_id=user.id,
                session_id=identity.session_id,
                strategy=identity.strategy,
            )
            await self._mail.queue(store, Occasion.PASSWORD_CHANGED, user)

    async def reauthenticate(
        self, identity: Identity, password: str, *, renewed: SecretHash | None
    ) -> None:
        """Let the session of the caller count as freshly logged in.

        `renewed` is another secret for it, as in `change_password`. Raises WrongPassword,
        TooManyAttempts, InvalidCredential if the session has ended.
        """
        stored = await self._proof.require(identity.user, password, caller=identity)
        async with self._database.transaction() as store:
            user, latest = await locked(store, identity.user.id)
            if latest != stored:
                raise WrongPassword
            session = await require_alive(store, identity)
            if session is not None:
                at = max(now(), identity.auth_time + MOMENT)
                if renewed is None:
                    await store.sessions.prove_again(session.id, auth_time=at)
                else:
                    await store.sessions.replace_secret(session.id, renewed, auth_time=at)
            await self._audit.record(
                store,
                EventType.REAUTHENTICATED,
                user_id=user.id,
                session_id=identity.session_id,
                strategy=identity.strategy,
            )

    async def set_password(self, user_id: UUID, password: str) -> None:
        """Give an account a password, by an operator; everything of its sessions ends."""
        account = parse_email((await self.find(user_id)).email).canonical
        await self._passwords.check_new(password, email=account)
        replacement = await self._passwords.hash(password)
        async with self._database.transaction() as store:
            user, _ = await locked(store, user_id)
            await store.users.set_password(user.id, replacement, at=after(user))
            await store.sessions.end_all(user.id)
            await self._audit.record(store, EventType.PASSWORD_CHANGED, user_id=user.id)
            await self._mail.queue(store, Occasion.PASSWORD_CHANGED, user)

    @retried
    async def edit(
        self,
        user_id: UUID,
        changes: Mapping[str, str | None],
        *,
        unless: Callable[[User], bool],
        caller: Identity | None = None,
    ) -> User:
        """Change `name`, `locale` or both, unless `unless` says of the account, as it is now, that
        it has changed.

        Raises PreconditionFailed then, NotFound if the account is gone, InvalidInput for a language
        that the settings do not have, InvalidCredential if the session of `caller`, who asks for
        it, has ended.
        """
        locale = changes.get("locale")
        check_locale(locale, self._settings)
        async with self._database.transaction() as store:
            user, _ = await locked(store, user_id)
            if caller is not None:
                await require_alive(store, caller)
            if unless(user):
                raise PreconditionFailed
            if "name" in changes and changes["name"] != user.name:
                await store.users.set_name(user_id, changes["name"], at=after(user))
                await self._audit.record(store, EventType.ACCOUNT_RENAMED, user_id=user_id)
            if "locale" in changes and locale != user.locale:
                await store.users.set_locale(user_id, locale, at=after(user))
            changed = await store.users.find(user_id)
        if changed is None:
            raise NotFound
        return changed

    @retried
    async def set_active(self, user_id: UUID, active: bool) -> User:
        """Activate or deactivate an account. Deactivating ends everything of it.

        Raises LastSuperuser.
        """
        async with self._database.transaction() as store:
            await standing.superusers_turn(store)
            user, _ = await locked(store, user_id)
            await standing.set_active(store, self._audit, user, active)
            changed = await store.users.find(user_id)
        if changed is None:
            raise NotFound
        return changed

    @retried
    async def delete(self, user_id: UUID, *, caller: Identity | None = None) -> None:
        """Remove an account and everything that belongs to it. Its id is never used again.

        Its events go as well, or lose what tells of a person, as the settings say; that it was
        removed stays, and if `caller` did that, not where from. Raises InvalidCredential if the
        session of `caller`, who asks for it, has ended; LastSuperuser.
        """
        client = current_client()
        if caller is not None:
            client = Client(request_id=client.request_id)
        async with self._database.transaction() as store:
            await standing.superusers_turn(store)
            found = await store.users.lock(user_id)
            if caller is not None:
                await require_alive(store, caller)
            if found is None:
                return
            with on_behalf_of(lambda: client):
                await standing.remove(store, self._audit, found[0], self._settings)

    async def find(self, user_id: UUID) -> User:
        """The account with this id. Raises NotFound."""
        async with self._database.read() as store:
            user = await store.users.find(user_id)
        if user is None:
            raise NotFound
        return user

    async def find_by_email(self, email: EmailAddress) -> User:
        """The account with this address. Raises NotFound."""
        async with self._database.read() as store:
            user = await store.users.find_by_email(email.canonical)
        if user is None:
            raise NotFound
        return user

    async def page(self, *, after: UUID | None = None, limit: int = 100) -> Sequence[User]:
        """Up to `limit` accounts, the oldest first, beginning behind the id `after`."""
        async with self._database.read() as store:
            return await store.users.page(after=after, limit=limit)

    async def _strengthen(self, user: User, password: str, stored: PasswordHash) -> PasswordHash:
        # A login must not fail because its hash could not be made stronger this time.
        if not self._passwords.is_outdated(stored):
            return stored
        try:
            stronger = await self._passwords.hash(password)
            async with self._database.transaction() as store:
                if await store.users.replace_hash(user.id, stored, stronger):
                    return stronger
                held = await store.users.lock(user.id)
        except Unavailable:
            _log.warning("a password hash was not strengthened this time")
            return stored
        # Another login has made it stronger meanwhile, or the password was changed.
        other = None if held is None else held[1]
        try:
            await self._passwords.verify(password, other)
        except PasswordMismatch:
            raise InvalidCredentials from None
        return stronger if other is None else other
