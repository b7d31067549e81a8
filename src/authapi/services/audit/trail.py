"""Security events of accounts, recorded in the transaction of the change that they report.

An event and its change are committed together or not at all. The log line of an event is written
after the commit, so that the log reports no change that was rolled back. `rate_limiter` bounds the
number of events that unauthenticated clients can cause.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from cachetools import TTLCache

from authapi.clock import now
from authapi.crypto.ids import first_id_at, new_id, new_ids
from authapi.domain.client import current_client
from authapi.domain.events import Event, EventFilter, EventType
from authapi.domain.identity import Identity
from authapi.errors import StorageUnavailable, TooManyAttempts, TooManyRequests
from authapi.services.audit.event_rate_limiter import EventRateLimiter, OnDrop
from authapi.services.hooks import Hooks
from authapi.services.jobs.pruning import prune_in_batches
from authapi.services.revalidation import revalidate_caller
from authapi.settings import Settings
from authapi.storage import Database, Store

_log = logging.getLogger("authapi.events")

_EXPORT_PAGE_SIZE = 100
"""Events of one page. Reading and formatting a page blocks the event loop for some milliseconds."""
_MAX_EXPORTS = 3
"""Concurrent exports of one account, in one process."""
_EXPORT_RETRY_AFTER = 10
"""Seconds after which a client may try another export."""
_SAMPLING_SECONDS = 60.0
"""Repeated refusals of one network are recorded once in this time: the attack that they report must
not fill the table."""
_DAY_SECONDS = 86400.0

OnEvent = Callable[[Store, Event], Awaitable[None]]


class Audit:
    """Records events, and reads them for their owner and for operators.

    `on_event` is called with each event, in the transaction that records it; then its `hooks` run.
    `on_drop` is called with the type of each event that exceeds its limit and is not recorded.
    Every method that writes to a `store`, or reads, raises StorageUnavailable if the database does
    not answer, and every method that records raises the errors of the hooks.
    """

    def __init__(
        self,
        database: Database,
        settings: Settings,
        *,
        on_event: OnEvent,
        hooks: Hooks,
        on_drop: OnDrop | None = None,
    ) -> None:
        self._database = database
        self._retention = settings.events_retention
        self._on_event = on_event
        self._hooks = hooks
        self.rate_limiter = EventRateLimiter(on_drop)
        self._recent: TTLCache[tuple[str, ...], bool] = TTLCache(
            maxsize=10_000, ttl=_SAMPLING_SECONDS
        )
        self._recent_logins: TTLCache[tuple[str, ...], bool] = TTLCache(
            maxsize=10_000, ttl=_DAY_SECONDS
        )
        self._export_lock = asyncio.Lock()
        self._exports = Counter[UUID | None]()
        """Exports in progress, by account."""

    def open(self) -> None:
        """Prepares for the running event loop, as a lock belongs to one."""
        self._export_lock = asyncio.Lock()
        self._exports.clear()

    async def record(
        self,
        store: Store,
        kind: EventType,
        *,
        user_id: UUID | None,
        session_id: UUID | None = None,
        strategy: str | None = None,
        actor: Identity | None = None,
        **detail: object,
    ) -> None:
        """Records an event of the current client in the transaction of `store`.

        Records nothing if the event is over the limit of its type (`rate_limiter`).
        `user_id` is the account concerned. `actor` is the superuser who made the change, if that is
        not the owner of the account.
        """
        if not self.rate_limiter.allow(kind, names_account=user_id is not None):
            return
        event = _event(kind, user_id, session_id, strategy, detail)
        if actor is not None:
            event = replace(event, actor_id=actor.user.id)
        await self._add(store, event)

    async def record_each(self, store: Store, kind: EventType, user_ids: Collection[UUID]) -> None:
        """Records one event of this type for each account, in the transaction of `store`.

        `on_event` is not called; the hooks run.
        """
        at, client = now(), current_client()
        several = [
            Event(event_id, at, kind, user_id, None, None, client, {})
            for event_id, user_id in zip(new_ids(len(user_ids)), user_ids, strict=True)
        ]
        await store.events.add_all(several)
        for event in several:
            await self._hooks.run_event(event, store.transaction)

    def has_hooks(self, kind: EventType) -> bool:
        """Whether a hook of the application runs at events of this type."""
        return kind in self._hooks.event_types

    async def record_separately(
        self,
        kind: EventType,
        *,
        user_id: UUID | None,
        session_id: UUID | None = None,
        strategy: str | None = None,
        **detail: object,
    ) -> bool:
        """Records an event that reports no change, in a transaction of its own.

        Returns False if the event could not be stored, and raises no StorageUnavailable: the
        request is refused all the same. Otherwise an attacker could turn wrong guesses into server
        errors while the database is read-only. Returns True for an event over the rate limit.
        """
        names_account = user_id is not None
        if not self.rate_limiter.allow(kind, names_account=names_account):
            return True
        event = _event(kind, user_id, session_id, strategy, detail)

        async def write(store: Store) -> None:
            await store.events.add_without_lock(event)
            await self._announce(store, event)

        return await self._try_write(kind, write, names_account=names_account)

    async def record_throttled(self, account: str | None = None) -> None:
        """Records that attempts are being throttled, once a minute for each network.

        `account` is the canonical email address that the attempts are for, whether an account has
        it or not; its owner sees the event. The limit is by network, not by account: otherwise one
        network could store a row for each address that it invents. The owner of an account under
        attack also sees the earlier `login_refused` events. Raises no StorageUnavailable.
        """
        event = _event(EventType.THROTTLED, None, None, None, {})

        async def write(store: Store) -> None:
            if account is None:
                await self._add(store, event)
            else:
                await store.events.add_for_email(event, email=account)
                await self._announce(store, event)

        async def record() -> bool:
            if not self.rate_limiter.allow(event.type, names_account=False):
                return True
            return await self._try_write(event.type, write, names_account=False)

        await _once(self._recent, record, event.type)

    @asynccontextmanager
    async def recording_throttled(self, account: str | None = None) -> AsyncIterator[None]:
        """Calls `record_throttled` if the block raises TooManyAttempts, which is raised again."""
        try:
            yield
        except TooManyAttempts:
            await self.record_throttled(account)
            raise

    async def record_access_refused(self, code: str, identity: Identity | None) -> None:
        """Records that a request was refused with the problem code `code`.

        `identity` belongs to the credential of the request, if there was one. Recorded once a
        minute for each code, user and network. Raises no StorageUnavailable.
        """
        user_id = identity.user.id if identity else None

        async def record() -> bool:
            return await self.record_separately(
                EventType.ACCESS_REFUSED,
                user_id=user_id,
                session_id=identity.session_id if identity else None,
                strategy=identity.strategy if identity else None,
                code=code,
            )

        await _once(self._recent, record, EventType.ACCESS_REFUSED, code, str(user_id))

    async def record_login_without_session(self, user_id: UUID, strategy: str) -> None:
        """Records a login that creates no session, once a day for each account and network.

        Every request of such a client is a login. Raises no StorageUnavailable.
        """

        async def record() -> bool:
            return await self.record_separately(EventType.LOGIN, user_id=user_id, strategy=strategy)

        await _once(self._recent_logins, record, str(user_id), strategy)

    async def _add(self, store: Store, event: Event) -> None:
        await store.events.add(event)
        await self._announce(store, event)

    async def _announce(self, store: Store, event: Event) -> None:
        await self._on_event(store, event)
        if event.type in self._hooks.event_types:
            await self._hooks.run_event(event, store.transaction)

    async def _try_write(
        self,
        kind: EventType,
        write: Callable[[Store], Awaitable[None]],
        *,
        names_account: bool,
    ) -> bool:
        """Runs `write` in a transaction. Returns whether it was committed."""
        is_committed = False
        try:
            async with self._database.transaction() as store:
                await write(store)
            is_committed = True
        except StorageUnavailable:
            request_id = current_client().request_id
            _log.error("%s event not recorded", kind.value, extra={"request_id": request_id})
        finally:
            if not is_committed:  # also if this task was cancelled: the limit counts stored rows
                self.rate_limiter.refund(kind, names_account=names_account)
        return is_committed

    async def prune(self) -> int:
        """Deletes events older than `events_retention`, in batches. Returns their number."""
        return await prune_in_batches(
            self._database,
            "events",
            lambda store, limit: store.events.prune(
                before=first_id_at(now() - self._retention), limit=limit
            ),
        )

    async def page(
        self,
        user_id: UUID,
        *,
        before: UUID | None,
        limit: int,
        types: frozenset[EventType] | None = None,
    ) -> Sequence[Event]:
        """Returns up to `limit` events of a user that are older than the event `before`.

        The newest event comes first; None begins with the newest of all. With `types`, returns only
        events of these types.
        """
        async with self._database.read() as store:
            return await store.events.page(user_id, before=before, limit=limit, types=types)

    async def search(
        self, wanted: EventFilter, *, before: UUID | None = None, limit: int = 50
    ) -> Sequence[Event]:
        """Returns up to `limit` events of all users that match `wanted`, as `page` does."""
        async with self._database.read() as store:
            return await store.events.search(wanted, before=before, limit=limit)

    async def count_without_address(self, *, since: datetime) -> int:
        """Returns the number of events since this time whose request had no valid IP address.

        Events of commands do not count, because they have no request. Raises StorageUnavailable.
        """
        async with self._database.read() as store:
            return await store.events.count_without_address(since=first_id_at(since))

    async def export(
        self,
        wanted: EventFilter,
        write: Callable[[Sequence[Event]], str],
        *,
        caller: Identity | None = None,
        superuser: bool = False,
        page_size: int | None = None,
    ) -> AsyncGenerator[str]:
        """Yields all matching events as text, the newest first; `write` formats one page.

        The caller is authorized again after each page and at the end, as a superuser if `superuser`
        is true. Raises InvalidCredential if the caller's session or account has ended,
        TooManyRequests if the caller has three exports in progress in this process. An export
        without a `caller` (the command line) is neither authorized nor limited.

        One page is in memory at a time, and no database connection is held between pages. Events
        recorded meanwhile are not included. A process reads and formats one page of all its exports
        at a time, so that other requests run in between.
        """
        before = None
        with self._count_export(caller):
            while True:
                async with self._export_lock:
                    limit = page_size or _EXPORT_PAGE_SIZE
                    page = await self.search(wanted, before=before, limit=limit)
                    text, before = (write(page), page[-1].id) if page else ("", before)
                    if caller is not None:
                        # After the page was read: the events of an account that was deleted in
                        # between are gone or anonymous.
                        await revalidate_caller(self._database, caller, superuser=superuser)
                if not page:
                    return
                yield text

    @contextmanager
    def _count_export(self, caller: Identity | None) -> Iterator[None]:
        owner = None if caller is None else caller.user.id
        if owner is not None and self._exports[owner] >= _MAX_EXPORTS:
            raise TooManyRequests(retry_after=_EXPORT_RETRY_AFTER)
        self._exports[owner] += 1
        try:
            yield
        finally:
            self._exports[owner] -= 1
            if self._exports[owner] <= 0:
                del self._exports[owner]


async def _once(
    recent: TTLCache[tuple[str, ...], bool], record: Callable[[], Awaitable[bool]], *key: str
) -> None:
    """Calls `record` unless it was called for `key` and the network of the client recently.

    If `record` is cancelled or returns False, the next call tries again.
    """
    key = (*key, current_client().network)
    if key in recent:
        return
    recent[key] = True
    is_recorded = False
    try:
        is_recorded = await record()
    finally:
        if not is_recorded:
            recent.pop(key, None)


def _event(
    kind: EventType,
    user_id: UUID | None,
    session_id: UUID | None,
    strategy: str | None,
    detail: Mapping[str, object],
) -> Event:
    return Event(
        id=new_id(),
        at=now(),
        type=kind,
        user_id=user_id,
        session_id=session_id,
        strategy=strategy,
        client=current_client(),
        detail=detail,
    )


def log_event(event: Event) -> None:
    """Logs a committed event."""
    _log.info(
        "%s",
        event.type.value,
        extra={
            "event_id": str(event.id),
            "outcome": event.outcome,
            "user_id": str(event.user_id) if event.user_id else None,
            "actor_id": str(event.actor_id) if event.actor_id else None,
            "session_id": str(event.session_id) if event.session_id else None,
            "strategy": event.strategy,
            "ip": event.client.ip,
            "user_agent": event.client.user_agent,
            "request_id": event.client.request_id,
        },
    )
