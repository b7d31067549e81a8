"""Invitations: an account is made for somebody, who takes it over with what came by mail."""

from authapi.identity import User
from authapi.services.accounts.one_time import OneTimeSecrets
from authapi.services.mail import Mail, Occasion
from authapi.storage import Store
from authapi.storage.tables.one_time_secrets import Purpose


class Invitations:
    """Sends them; `Recovery.accept` is the other end."""

    def __init__(self, one_time: OneTimeSecrets, mail: Mail) -> None:
        self._one_time = one_time
        self._mail = mail

    async def invite(self, store: Store, user: User) -> None:
        """Invite `user`, who is locked or new, in the transaction of `store`.

        An invitation that was sent before ends.
        """
        made = await self._one_time.make(store, user, Purpose.INVITATION)
        await self._mail.queue(
            store, Occasion.INVITATION, user, secret=made.text, expires_at=made.expires_at
        )
