"""Invitations: a mailed link with which the owner of an address takes over a new account."""

from authapi.domain.email_address import stored_email
from authapi.domain.email_token import Purpose
from authapi.domain.events import EventType
from authapi.services.accounts.email_tokens import EmailTokens
from authapi.services.accounts.passwords import transfer_to_mailbox_owner
from authapi.services.accounts.users import next_update_time
from authapi.services.audit import Audit
from authapi.services.passwords import Passwords
from authapi.storage import Database


class Invitations:
    """Accepts invitations, which `Administration` sends."""

    def __init__(
        self,
        database: Database,
        passwords: Passwords,
        email_tokens: EmailTokens,
        audit: Audit,
    ) -> None:
        self._database = database
        self._passwords = passwords
        self._email_tokens = email_tokens
        self._audit = audit

    async def accept(self, token: str, password: str, *, name: str | None) -> None:
        """Sets the first password of the account that `token` invites to, and confirms its address.

        `name` replaces the name of the account, if it is not None. Raises InvalidOneTimeSecret;
        InvalidInput if the password policy rejects `password`, after which `token` still works;
        Overloaded if too many hashes are waiting; and StorageUnavailable if the database does not
        answer.
        """
        # Hashing takes long and the policy may reject the password: both precede the redemption.
        _, user = await self._email_tokens.peek(token, Purpose.INVITATION)
        email = stored_email(user.email).canonical
        await self._passwords.check_policy(
            password, email=email, username=user.username, field="password"
        )
        hashed = await self._passwords.hash(password)
        async with self._database.transaction() as store:
            user = (await self._email_tokens.redeem(store, token, Purpose.INVITATION)).user
            changed = await transfer_to_mailbox_owner(store, user, hashed)
            if name is not None:
                await store.users.set_name(user.id, name, at=next_update_time(changed))
            await self._audit.record(store, EventType.INVITATION_ACCEPTED, user_id=user.id)
