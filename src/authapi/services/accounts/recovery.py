"""Choosing a password with what came by mail: after it was forgotten, or as somebody invited."""

from authapi.crypto.passwords import PasswordHash
from authapi.identity import EventType
from authapi.services.accounts.changes import after, take_over
from authapi.services.accounts.one_time import OneTimeSecrets
from authapi.services.addresses import parse_email
from authapi.services.audit import Audit
from authapi.services.mail import Mail, Occasion
from authapi.services.passwords import Passwords
from authapi.storage import Database
from authapi.storage.tables.one_time_secrets import Purpose


class Recovery:
    """Ends in an account with another password, and never in a login."""

    def __init__(
        self,
        database: Database,
        passwords: Passwords,
        one_time: OneTimeSecrets,
        mail: Mail,
        audit: Audit,
    ) -> None:
        self._database = database
        self._passwords = passwords
        self._one_time = one_time
        self._mail = mail
        self._audit = audit

    async def reset(self, secret: str, password: str) -> None:
        """Give the account that `secret` is about another password; everything of it ends.

        Raises InvalidOneTimeSecret, and InvalidInput for a password that may not be chosen: then
        the secret still works.
        """
        chosen = await self._chosen(secret, Purpose.RESET, password, field="new_password")
        async with self._database.transaction() as store:
            user = (await self._one_time.take(store, secret, Purpose.RESET)).user
            changed = await take_over(store, user, chosen)
            await self._mail.queue(store, Occasion.PASSWORD_CHANGED, changed)
            await self._audit.record(store, EventType.PASSWORD_RESET, user_id=user.id)

    async def accept(self, secret: str, password: str, *, name: str | None) -> None:
        """Give the account that `secret` invites to its first password; `name` if it is not None.

        Raises as `reset`.
        """
        chosen = await self._chosen(secret, Purpose.INVITATION, password, field="password")
        async with self._database.transaction() as store:
            user = (await self._one_time.take(store, secret, Purpose.INVITATION)).user
            changed = await take_over(store, user, chosen, keep_name=True)
            if name is not None:
                await store.users.set_name(user.id, name, at=after(changed))
            await self._audit.record(store, EventType.INVITATION_ACCEPTED, user_id=user.id)

    async def _chosen(
        self, secret: str, purpose: Purpose, password: str, *, field: str
    ) -> PasswordHash:
        # All that takes time or may be refused comes before the secret is used up.
        _, user = await self._one_time.look(secret, purpose)
        await self._passwords.check_new(
            password, email=parse_email(user.email).canonical, field=field
        )
        return await self._passwords.hash(password)
