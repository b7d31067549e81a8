"""Invitations: an account that was made for somebody, and the mail by which they take it over."""

from authapi.clock import now
from authapi.crypto.ids import new_id
from authapi.crypto.secrets import hash_secret, new_secret
from authapi.identity import User
from authapi.services.addresses import parse_email
from authapi.services.mail import Mail, Occasion
from authapi.settings import Settings
from authapi.storage import Store
from authapi.storage.tables.one_time_secrets import OneTimeSecret, Purpose


class Invitations:
    """Invites the owners of new accounts."""

    def __init__(self, mail: Mail, settings: Settings) -> None:
        self._mail = mail
        self._settings = settings

    async def invite(self, store: Store, user: User) -> None:
        """Write to `user`, whose account has no password yet, once `store` is committed.

        An earlier invitation of theirs is worthless then.
        """
        secret, at = new_secret(), now()
        expires_at = at + self._settings.invitation_lifetime
        await store.one_time_secrets.end_of(user.id, [Purpose.INVITATION])
        await store.one_time_secrets.add(
            OneTimeSecret(
                id=new_id(),
                user_id=user.id,
                purpose=Purpose.INVITATION,
                email=parse_email(user.email).canonical,
                email_given=user.email,
                password_version=0,
                created_at=at,
                expires_at=expires_at,
            ),
            hash_secret(secret),
        )
        await self._mail.queue(
            store, Occasion.INVITATION, user, secret=secret, expires_at=expires_at
        )
