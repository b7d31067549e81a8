"""Mail to the owners of accounts, queued in the transaction of what it tells of.

What is queued says who is written to and about what (`Mail.queue`); the text is made when it is
sent (`letters`, from `templates`, with `links`), and leaves by one of `transports`.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from email.message import EmailMessage

from cachetools import TTLCache
from limits import parse as parse_rate

from authapi.clock import now
from authapi.crypto.ids import new_id
from authapi.errors import ConfigurationError, DeliveryFailed
from authapi.identity import User, current_client
from authapi.services.addresses import parse_email
from authapi.services.background.outbox import Outbox, Payload
from authapi.services.mail.letters import Letters, example
from authapi.services.mail.occasions import Occasion
from authapi.services.mail.transports import Transport, transport_of
from authapi.settings import Settings
from authapi.storage import Store
from authapi.storage.tables.outbox import Entry

__all__ = ["KIND", "Mail", "Occasion"]

KIND = "mail"
"""Of entries in the outbox."""

_NAMES_ITS_READER = frozenset(
    {Occasion.PASSWORD_CHANGED, Occasion.TOKEN_CREATED, Occasion.REFRESH_REUSE}
)
"""Occasions that need a login to the account, and are told at its own address. A stranger can cause
every other mail, and to any address: a name in it would be whatever text they want read there."""


@dataclass(slots=True)
class _Count:
    mails: int = 0

    def ended(self, is_committed: bool) -> None:
        """Take back the mail of a transaction that is not committed."""
        self.mails -= not is_committed


class Mail:
    """Queues mail, and delivers it."""

    def __init__(self, outbox: Outbox, settings: Settings) -> None:
        self._outbox = outbox
        self._settings = settings
        self._letters = Letters(settings)
        limit = parse_rate(settings.limit_mails)
        self._most = limit.amount
        self._told: TTLCache[tuple[Occasion, str], _Count] = TTLCache(
            maxsize=10_000, ttl=limit.get_expiry()
        )
        """By occasion and canonical address. A window begins with its first mail."""
        self.transport: Transport | None = transport_of(settings)
        """How mail leaves; tests put something else here."""
        if self.transport is not None:
            outbox.on(KIND, self.deliver)

    def open(self) -> None:
        """Find out whether mail can be written. Blocks.

        Raises ConfigurationError if templates or certificates cannot be used.
        """
        if self.transport is not None:
            if self._settings.mail_templates is not None:
                self._letters.check()
            self.transport.open()

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
        template may tell. Their own words, name and facts, are told to those only whose address is
        confirmed. Nothing happens where the settings send no mail, nor where an address that was
        never confirmed, and may not be that of `user`, has had `limit_mails` of these notices.
        """
        is_owner = user.email_confirmed_at is not None
        is_notice = occasion in _NAMES_ITS_READER
        if not self._settings.sends_mail or (
            is_notice and not is_owner and self._is_flood(store, occasion, user)
        ):
            return
        payload = {
            "to": user.email if to is None else to,
            "name": user.name if is_owner and is_notice and to is None else None,
            "locale": user.locale,
            "secret": secret,
            "expires_at": expires_at.isoformat() if expires_at else None,
            "at": now().isoformat(),
            "ip": current_client().ip,
            "facts": facts if is_owner else {},
        }
        lifetime: timedelta | None = None if expires_at is None else expires_at - now()
        await self._outbox.put(
            store, KIND, occasion.value, payload, user_id=user.id, lifetime=lifetime
        )

    def _is_flood(self, store: Store, occasion: Occasion, user: User) -> bool:
        """Whether this notice is over the limit. If not, it is counted once `store` is committed.

        A transaction that is run again, or ends without a commit, sends no mail. Each process
        counts for itself.
        """
        key = occasion, parse_email(user.email).canonical
        count = self._told.get(key)
        if count is None:
            count = self._told[key] = _Count()
        if count.mails >= self._most:
            return True
        count.mails += 1
        store.on_end.append(count.ended)
        return False

    async def deliver(self, entry: Entry, payload: Payload) -> None:
        """Send what was queued. Raises DeliveryFailed."""
        ends = payload["expires_at"]
        if ends is not None and datetime.fromisoformat(ends) <= now():
            raise DeliveryFailed("the time of its link was over", permanent=True)
        await self._send(self._letters.write(entry, payload))

    async def test(self, to: str, *, locale: str | None = None) -> None:
        """Send a mail to the address `to`, now and without the outbox.

        Raises DeliveryFailed, ConfigurationError where the settings send no mail.
        """
        at = now()
        entry = Entry(new_id(), KIND, Occasion.TEST.value, None, b"", at, at, at)
        await self._send(self._letters.write(entry, example(locale, to=to)))

    async def check(self) -> str:
        """Whether the templates can be written and the transport can be reached; what it says.

        Raises ConfigurationError for what the settings are to change, DeliveryFailed.
        """
        if self.transport is None:
            return "off: nobody is written to"
        self._letters.check()
        self.transport.open()
        return await self.transport.check()

    async def _send(self, letter: EmailMessage) -> None:
        if self.transport is None:
            raise ConfigurationError("no mail is sent: set AUTHAPI_MAIL_URL")
        await self.transport.send(letter)
