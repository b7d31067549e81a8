"""What superusers and operators at the command line see of the outbox, and what they do about it.

Each change checks inside its transaction that the actor still is a superuser, and records an event
that names them. An operator at the command line has no account: their events name no actor. Nothing
here returns or sends the payload of an entry, which contains links with secrets. Each call raises
StorageUnavailable if the database does not answer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlsplit
from uuid import UUID

from authapi.domain.email_address import EmailAddress, stored_email
from authapi.domain.events import EventType
from authapi.domain.identity import Identity
from authapi.domain.outbox import OutboxCount, OutboxEntry
from authapi.errors import MailDisabled, NotFound
from authapi.services.audit import Audit
from authapi.services.jobs.outbox import Outbox
from authapi.services.mail import Mail, MailKind
from authapi.services.rate_limits import RateLimits
from authapi.services.revalidation import lock_actor
from authapi.services.webhooks import Webhooks
from authapi.settings import Settings
from authapi.storage import Database, Store
from authapi.storage.database import retry_on_conflict


@dataclass(frozen=True, slots=True)
class QueueState:
    """How many entries wait for delivery, and how many have failed for good."""

    waiting: int = 0
    waiting_since: datetime | None = None
    """When the oldest waiting entry was queued; None without one."""
    given_up: int = 0
    given_up_since: datetime | None = None
    """When the oldest failed entry was queued; None without one."""
    delivered_at: datetime | None = None
    """When an entry was last delivered, to the minute; None if that never happened."""


class Queues:
    """Shows the outbox, repeats deliveries, and sends tests.

    `actor` is the superuser who does it, or None for an operator at the command line. Each call
    with an `actor` raises as `lock_actor`.
    """

    def __init__(
        self,
        database: Database,
        outbox: Outbox,
        mail: Mail,
        webhooks: Webhooks,
        rate_limits: RateLimits,
        audit: Audit,
        settings: Settings,
    ) -> None:
        self._database = database
        self._outbox = outbox
        self._mail = mail
        self._webhooks = webhooks
        self._rate_limits = rate_limits
        self._audit = audit
        self._settings = settings

    async def state(self, kind: str) -> QueueState:
        """Returns the state of all entries of `kind`."""
        async with self._database.read() as store:
            counts = await store.outbox.counts(kind)
            delivered = await store.outbox.last_deliveries(kind)
        return _sum(counts, max(delivered.values(), default=None))

    async def states(self, kind: str) -> Mapping[str, QueueState]:
        """Returns the state of each receiver that has, or had, entries of `kind`."""
        async with self._database.read() as store:
            counts = await store.outbox.counts(kind)
            delivered = await store.outbox.last_deliveries(kind)
        names = {*delivered, *(count.receiver for count in counts)}
        return {
            name: _sum([it for it in counts if it.receiver == name], delivered.get(name))
            for name in names
        }

    async def page(
        self,
        kind: str,
        *,
        has_failed: bool | None = None,
        after: UUID | None = None,
        limit: int,
    ) -> Sequence[OutboxEntry]:
        """Returns up to `limit` entries, the oldest first, as `Outbox.list_undelivered`."""
        return await self._outbox.list_undelivered(
            kind, has_failed=has_failed, after=after, limit=limit
        )

    @retry_on_conflict
    async def retry(
        self, kind: str, *, actor: Identity | None = None, receiver: str | None = None
    ) -> int:
        """Makes the undelivered entries of `kind` due now, also failed ones; returns their number.

        With `receiver`, only those of that receiver. Entries that a process may be delivering stay
        as they are.
        """
        async with self._database.transaction() as store:
            await _lock_actor(store, actor)
            count = await self._outbox.retry_in(store, kind, receiver=receiver)
            if count:
                event = EventType.DELIVERIES_RETRIED
                await self._audit.record(
                    store, event, user_id=None, actor=actor, queue=kind, count=count
                )
        return count

    @retry_on_conflict
    async def retry_entry(self, kind: str, entry_id: UUID, *, actor: Identity) -> bool:
        """Makes one entry due now. Returns False if a process may be delivering it.

        Raises NotFound if there is no such entry: it may be delivered by now.
        """
        async with self._database.transaction() as store:
            await lock_actor(store, actor)
            if not await store.outbox.exists(kind, entry_id):
                raise NotFound
            count = await self._outbox.retry_in(store, kind, entry_id=entry_id)
            if count:
                event, entry = EventType.DELIVERIES_RETRIED, str(entry_id)
                await self._audit.record(
                    store, event, user_id=None, actor=actor, queue=kind, count=1, entry_id=entry
                )
        return count == 1

    @retry_on_conflict
    async def send_test_mail(self, *, actor: Identity) -> None:
        """Queues a test mail to the address of the actor.

        Raises MailDisabled if the settings disable mail, TooManyRequests if the actor has sent
        `limit_mails` of them.
        """
        if not self._settings.sends_mail:
            raise MailDisabled
        account = stored_email(actor.user.email).canonical
        await self._rate_limits.consume_own_mail(MailKind.TEST.value, account)
        async with self._database.transaction() as store:
            user = (await lock_actor(store, actor))[actor.user.id]
            await self._mail.queue(store, MailKind.TEST, user)
            await self._audit.record(store, EventType.MAIL_TESTED, user_id=None, actor=actor)

    async def send_test_mail_to(self, address: EmailAddress, *, locale: str | None = None) -> str:
        """Sends a test mail to any address at once, for an operator.

        Returns a text on the transport, as `Mail.check`. `locale` is the language of the mail; None
        is the first one of the settings. Raises MailDisabled if the settings disable mail, and as
        `Mail.check` and `Mail.send_test`.
        """
        if not self._settings.sends_mail:
            raise MailDisabled
        transport = await self._mail.check()
        await self._record_mail_test()
        await self._mail.send_test(address.original, locale=locale)
        return transport

    @retry_on_conflict
    async def _record_mail_test(self) -> None:
        # Before the mail, as `_record_webhook_test`. Without the address: it may be that of a
        # person who has no account, and the event is kept for long.
        async with self._database.transaction() as store:
            await self._audit.record(store, EventType.MAIL_TESTED, user_id=None)

    async def test_webhook(self, receiver: str, *, actor: Identity | None = None) -> int:
        """Sends a test event to the URL of `receiver` at once. Returns the status of the response.

        Raises NotFound if no configured URL is that of `receiver`, DeliveryFailed if there is no
        response.
        """
        url = self._webhooks.receivers.get(receiver)
        if url is None:
            raise NotFound
        await self._record_webhook_test(url, actor)
        return await self._webhooks.test(url)

    @retry_on_conflict
    async def _record_webhook_test(self, url: str, actor: Identity | None) -> None:
        # Before the request, which no transaction may wait for.
        async with self._database.transaction() as store:
            await _lock_actor(store, actor)
            kind, host = EventType.WEBHOOK_TESTED, urlsplit(url).hostname
            await self._audit.record(store, kind, user_id=None, actor=actor, host=host)


async def _lock_actor(store: Store, actor: Identity | None) -> None:
    if actor is not None:
        await lock_actor(store, actor)


def _sum(counts: Sequence[OutboxCount], delivered_at: datetime | None) -> QueueState:
    waiting = [it for it in counts if not it.has_failed]
    given_up = [it for it in counts if it.has_failed]
    return QueueState(
        waiting=sum(it.entries for it in waiting),
        waiting_since=min((it.oldest_at for it in waiting), default=None),
        given_up=sum(it.entries for it in given_up),
        given_up_since=min((it.oldest_at for it in given_up), default=None),
        delivered_at=delivered_at,
    )
