"""Password reset by e-mail, and the transfer of an account to the owner of its mailbox."""

from authapi.crypto.passwords import PasswordHash
from authapi.domain.email_address import parse_email
from authapi.domain.email_token import Purpose
from authapi.domain.events import EventType
from authapi.domain.user import User
from authapi.errors import NotFound
from authapi.services.accounts.email_tokens import REVOKED_ON_ACCOUNT_CHANGE, EmailTokens
from authapi.services.accounts.users import next_update_time
from authapi.services.audit import Audit
from authapi.services.mail import Mail, MailKind
from authapi.services.passwords import Passwords
from authapi.storage import Database, Store


class PasswordReset:
    """Resets passwords. A reset never logs its user in."""

    def __init__(
        self,
        database: Database,
        passwords: Passwords,
        email_tokens: EmailTokens,
        mail: Mail,
        audit: Audit,
    ) -> None:
        self._database = database
        self._passwords = passwords
        self._email_tokens = email_tokens
        self._mail = mail
        self._audit = audit

    async def reset(self, token: str, password: str) -> None:
        """Sets the password of the account that `token` was issued for.

        Ends all its sessions, tokens and e-mailed links, confirms its address, and mails the
        owner. Raises InvalidOneTimeSecret; InvalidInput if the password policy rejects `password`,
        after which `token` still works; Overloaded if too many hashes are waiting; and
        StorageUnavailable if the database does not answer.
        """
        # Hashing takes long and the policy may reject the password: both precede the redemption.
        _, user = await self._email_tokens.peek(token, Purpose.RESET)
        email = parse_email(user.email).canonical
        await self._passwords.check_policy(password, email=email, field="new_password")
        hashed = await self._passwords.hash(password)
        async with self._database.transaction() as store:
            user = (await self._email_tokens.redeem(store, token, Purpose.RESET)).user
            changed = await transfer_to_mailbox_owner(store, user, hashed)
            await self._mail.queue(store, MailKind.PASSWORD_CHANGED, changed)
            await self._audit.record(store, EventType.PASSWORD_RESET, user_id=user.id)


async def transfer_to_mailbox_owner(
    store: Store, user: User, password: PasswordHash | None, *, keep_name: bool = False
) -> User:
    """Transfers the locked account to the person who reads mail at its address; returns it.

    Sets `password`, or removes the password, and ends every session, token and link, so that
    no other person keeps access. The address counts as confirmed now. A name from before the first
    confirmation may come from another person and is removed, unless `keep_name` is set. Raises
    NotFound if the account is deleted.
    """
    at = next_update_time(user)
    await store.users.set_password(user.id, password, at=at)
    if user.email_confirmed_at is None:
        await store.users.confirm_email(user.id, at=at)
        if not keep_name:
            await store.users.set_name(user.id, None, at=at)
    await store.sessions.end_all(user.id)  # deletes their refresh families too
    await store.email_tokens.delete_for_user(user.id, REVOKED_ON_ACCOUNT_CHANGE)
    changed = await store.users.find(user.id)
    if changed is None:
        raise NotFound
    return changed
