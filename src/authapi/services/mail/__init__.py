"""Mail to the owners of accounts, queued in the transaction of what it tells of.

What is queued says who is written to and about what; the text is made when it is sent.
"""

from datetime import datetime, timedelta
from enum import StrEnum

from authapi.clock import now
from authapi.identity import User, current_client
from authapi.services.background.outbox import Outbox
from authapi.settings import Settings
from authapi.storage import Store

KIND = "mail"
"""Of entries in the outbox."""


class Occasion(StrEnum):
    """Why somebody is written to; also the name of the templates."""

    CONFIRM = "confirm"
    """Confirm that the address of your account is yours."""
    RESET = "reset"
    """Choose another password."""
    CHANGE = "change"
    """To a new address: confirm that your account is to have it."""
    EMAIL_CHANGED = "email_changed"
    """To the old address: your account has another one; undo it if that was not you."""
    PASSWORD_CHANGED = "password_changed"
    TOKEN_CREATED = "token_created"
    REFRESH_REUSE = "refresh_reuse"
    """A refresh token was used twice: somebody may have stolen it."""
    INVITATION = "invitation"
    """An account was made for you: accept it."""
    ADDRESS_TAKEN = "address_taken"
    """Somebody wants to register, or take, the address that your account has."""


class Mail:
    """Queues mail."""

    def __init__(self, outbox: Outbox, settings: Settings) -> None:
        self._outbox = outbox
        self._settings = settings

    async def queue(
        self,
        store: Store,
        occasion: Occasion,
        user: User,
        *,
        to: str | None = None,
        secret: str | None = None,
        expires_at: datetime | None = None,
        **facts: str,
    ) -> None:
        """Write to `user`, at their address or at `to`, once `store` is committed.

        `secret` is what the link in it proves, until `expires_at`; `facts` are what else the
        template may tell. Nothing happens where the settings send no mail.
        """
        if not self._settings.sends_mail:
            return
        client = current_client()
        payload = {
            "to": user.email if to is None else to,
            "name": user.name,
            "locale": user.locale,
            "secret": secret,
            "expires_at": expires_at.isoformat() if expires_at else None,
            "at": now().isoformat(),
            "ip": client.ip,
            "user_agent": client.user_agent,
            "facts": facts,
        }
        lifetime: timedelta | None = None if expires_at is None else expires_at - now()
        await self._outbox.put(
            store, KIND, occasion.value, payload, user_id=user.id, lifetime=lifetime
        )
