"""Mail to the owners of accounts, queued in the transaction of the change that causes it.

`Mail.queue` writes an entry into the outbox: the recipient, the kind of mail and its values. When
the entry is delivered, `rendering` makes the message from `templates` and `links`, and one of
`transports` sends it. Each method that takes a `Store` or delivers raises StorageUnavailable if the
database does not answer.
"""

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.message import EmailMessage

from cachetools import TTLCache
from limits import parse as parse_rate

from authapi.clock import now
from authapi.crypto.ids import new_id
from authapi.domain.client import current_client
from authapi.domain.email_address import stored_email
from authapi.domain.outbox import OutboxEntry
from authapi.domain.user import User
from authapi.errors import ConfigurationError, DeliveryFailed
from authapi.late_imports import import_in_thread
from authapi.services.jobs.outbox import Outbox, Payload
from authapi.services.mail.kinds import PERSONALISED, MailKind
from authapi.services.mail.rendering import LIBRARIES, MailRenderer, example_payload
from authapi.services.mail.transports import Transport, create_transport
from authapi.settings import Settings
from authapi.storage import Store

OUTBOX_KIND = "mail"
"""The kind of the outbox entries that hold mail."""


@dataclass(slots=True)
class _Counter:
    mails: int = 0

    def on_transaction_end(self, is_committed: bool) -> None:
        """Uncounts the mail of a transaction that was not committed."""
        self.mails -= not is_committed


class Mail:
    """Queues mail, and delivers it."""

    def __init__(self, outbox: Outbox, settings: Settings) -> None:
        self._outbox = outbox
        self._settings = settings
        self._renderer = MailRenderer(settings)
        self._is_ready = False
        self._preparation = asyncio.Lock()
        """Keeps the order of mails that wait for the imports."""
        limit = parse_rate(settings.limit_mails)
        self._max_notices = limit.amount
        self._notices: TTLCache[tuple[MailKind, str], _Counter] = TTLCache(
            maxsize=10_000, ttl=limit.get_expiry()
        )
        """By kind and canonical address. A window begins with its first mail."""
        self.transport: Transport | None = create_transport(settings)
        """None if the settings disable mail. Tests replace it."""
        if self.transport is not None:
            outbox.register(OUTBOX_KIND, self.deliver)

    def open(self) -> None:
        """Checks the operator's templates, and reads the certificates of the transport. Blocks.

        Raises ConfigurationError if a template or the certificates cannot be used.
        """
        if self.transport is not None:
            if self._settings.mail_templates is not None:
                self._renderer.check()
            self.transport.open()

    async def queue(
        self,
        store: Store,
        kind: MailKind,
        user: User,
        *,
        to: str | None = None,
        secret: str | None = None,
        expires_at: datetime | None = None,
        **facts: str,
    ) -> None:
        """Queues a mail to `user`, or to the address `to`; it is sent once `store` is committed.

        The link in the mail contains `secret` and works until `expires_at`. `facts` are further
        values for the template. The name of the user and `facts` are text that the user chose: they
        are in the mail only if the address of the user is confirmed.

        Nothing is queued if the settings disable mail. Personalised notices to an unconfirmed
        address, which may belong to another person, are limited to `limit_mails` for each kind.
        """
        is_confirmed = user.email_confirmed_at is not None
        is_personalised = kind in PERSONALISED
        if not self._settings.sends_mail or (
            is_personalised and not is_confirmed and self._over_limit(store, kind, user)
        ):
            return
        payload = {
            "to": user.email if to is None else to,
            "name": user.name if is_confirmed and is_personalised and to is None else None,
            "locale": user.locale,
            "secret": secret,
            "expires_at": expires_at.isoformat() if expires_at else None,
            "at": now().isoformat(),
            "ip": current_client().ip,
            "facts": facts if is_confirmed else {},
        }
        lifetime: timedelta | None = None if expires_at is None else expires_at - now()
        await self._outbox.enqueue(
            store, OUTBOX_KIND, kind.value, payload, user_id=user.id, lifetime=lifetime
        )

    def _over_limit(self, store: Store, kind: MailKind, user: User) -> bool:
        """Whether this notice exceeds `limit_mails`. If not, count it.

        The count is undone if the transaction of `store` is retried or rolled back, as it sends no
        mail then. Each process counts its own notices.
        """
        key = kind, stored_email(user.email).canonical
        counter = self._notices.get(key)
        if counter is None:
            counter = self._notices[key] = _Counter()
        if counter.mails >= self._max_notices:
            return True
        counter.mails += 1
        store.on_end.append(counter.on_transaction_end)
        return False

    async def deliver(self, entry: OutboxEntry, payload: Payload) -> None:
        """Sends a queued mail.

        Raises DeliveryFailed if the transport does not accept it, its link has expired or its
        recipient is invalid, and EntryFailed if the server rejects the message or a template cannot
        be rendered.
        """
        expires_at = payload["expires_at"]
        if expires_at is not None and datetime.fromisoformat(expires_at) <= now():
            raise DeliveryFailed("the link has expired", permanent=True)
        await self._prepare()
        await self._send(self._renderer.render(entry, payload))

    async def send_test(self, to: str, *, locale: str | None = None) -> None:
        """Sends a mail to the address `to` at once, without the outbox.

        Raises DeliveryFailed as `deliver`, and ConfigurationError if the settings disable mail.
        """
        await self._prepare()
        at = now()
        entry = OutboxEntry(new_id(), OUTBOX_KIND, MailKind.TEST.value, None, b"", at, at, at)
        await self._send(self._renderer.render(entry, example_payload(locale, to=to)))

    async def _prepare(self) -> None:
        if not self._is_ready:
            async with self._preparation:
                await import_in_thread(*LIBRARIES)
                self._is_ready = True

    async def check(self) -> str:
        """Renders all templates and connects to the transport. Returns a text for operators.

        Raises ConfigurationError if the settings or templates cannot be used, DeliveryFailed if the
        transport cannot be reached.
        """
        if self.transport is None:
            return "off: no mail is sent"
        self._renderer.check()
        self.transport.open()
        return await self.transport.check()

    async def _send(self, message: EmailMessage) -> None:
        if self.transport is None:
            raise ConfigurationError("mail is disabled: set AUTHAPI_MAIL_URL")
        await self.transport.send(message)
