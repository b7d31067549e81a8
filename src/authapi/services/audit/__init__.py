"""What happened to accounts, written down in the transaction that made it happen.

An event and the change it tells of are committed together or not at all. The log hears of it after
the commit, so that it never tells of something that was taken back. Of what strangers cause, so
many rows a minute are written and no more (`floods`).
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
from uuid import UUID

from cachetools import TTLCache

from authapi.clock import now
from authapi.crypto.ids import first_id_at, new_id
from authapi.errors import StorageUnavailable, TooManyAttempts, TooManyRequests
from authapi.identity import Event, EventType, Identity, current_client
from authapi.services.alive import require_still
from authapi.services.audit.floods import Floods
from authapi.services.background.pruning import prune
from authapi.settings import Settings
from authapi.storage import Database, Store
from authapi.storage.tables.events import EventFilter

_log = logging.getLogger("authapi.events")

_EXPORT_PAGE = 100
"""Events of one page: to read and write so many holds the event loop for a few milliseconds."""
_EXPORTS_OF_ONE = 3
"""Exports of one account at one time, in one process."""
_EXPORT_AGAIN = 10
"""Seconds until another one may be tried."""
_SAMPLING = 60.0
"""Seconds in which what one network is refused again and again is written down once: a flood is not
to fill the table that is to tell of it."""
_ONCE_A_DAY = 86400.0


class Audit:
    """Writes events down, and reads them back to their owner."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._retention = settings.events_retention
        self.floods = Floods()
        self._told: TTLCache[tuple[str, ...], bool] = TTLCache(maxsize=10_000, ttl=_SAMPLING)
        self._logins: TTLCache[tuple[str, ...], bool] = TTLCache(maxsize=10_000, ttl=_ONCE_A_DAY)
        self._exporting = asyncio.Lock()
        self._exports = Counter[UUID | None]()
        """How many exports of each account are under way."""
        database.on_commit = _to_log
        self.on_event: Callable[[Store, Event], Awaitable[None]] = _nobody
        """Told of each event in the transaction that writes it down."""

    def open(self) -> None:
        """Begin in the event loop that runs now: a lock belongs to one."""
        self._exporting = asyncio.Lock()
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
        """Write down an event in the transaction of `store`, with where the request came from.

        `actor` is the superuser who did it, where that is not whose account it is.
        """
        if not self.floods.admit(kind, names_account=user_id is not None):
            return
        event = _event(kind, user_id, session_id, strategy, detail)
        if actor is not None:
            event = replace(event, actor_id=actor.user.id)
        await self._add(store, event)

    async def record_each(self, store: Store, kind: EventType, user_ids: Collection[UUID]) -> None:
        """Write down the same of many accounts, in the transaction of `store`."""
        await store.events.add_all([_event(kind, user_id, None, None, {}) for user_id in user_ids])

    async def record_alone(
        self,
        kind: EventType,
        *,
        user_id: UUID | None,
        session_id: UUID | None = None,
        strategy: str | None = None,
        **detail: object,
    ) -> bool:
        """Write down an event in a transaction of its own: nothing else has changed.

        What it tells of stands even if it cannot be written down: otherwise a database that only
        answers reads would turn a wrong guess into an outage, which costs the guesser nothing.
        False if it was to be written down and could not be.
        """
        names_account = user_id is not None
        if not self.floods.admit(kind, names_account=names_account):
            return True
        event = _event(kind, user_id, session_id, strategy, detail)

        async def write(store: Store) -> None:
            await store.events.add_alone(event)
            await self.on_event(store, event)

        return await self._try(kind, write, names_account=names_account)

    async def throttled(self, account: str | None = None) -> None:
        """Write down that attempts are being throttled, once a minute and network.

        `account` is the canonical address that they are at, whether there is such an account or
        not: its owner is told. Once for each account would let one network write a row for each
        address that it makes up. The owner of an account that is guessed at hears of it from the
        `login_refused` before.
        """
        event = _event(EventType.THROTTLED, None, None, None, {})

        async def write(store: Store) -> None:
            if account is None:
                await self._add(store, event)
            else:
                await store.events.add_for(event, email=account)
                await self.on_event(store, event)

        async def tell() -> bool:
            if not self.floods.admit(event.type, names_account=False):
                return True
            return await self._try(event.type, write, names_account=False)

        await _once(self._told, tell, event.type)

    @asynccontextmanager
    async def throttling(self, account: str | None = None) -> AsyncIterator[None]:
        """Write down what is refused inside of it for being too much, as `throttled` does."""
        try:
            yield
        except TooManyAttempts:
            await self.throttled(account)
            raise

    async def access_refused(self, code: str, identity: Identity | None) -> None:
        """Write down that somebody may not do what they asked for, and why: `code`.

        `identity` is whose credential came along, if any did, whoever was behind the request. Once
        a minute for each code, caller and network.
        """
        user_id = identity.user.id if identity else None

        async def tell() -> bool:
            return await self.record_alone(
                EventType.ACCESS_REFUSED,
                user_id=user_id,
                session_id=identity.session_id if identity else None,
                strategy=identity.strategy if identity else None,
                code=code,
            )

        await _once(self._told, tell, EventType.ACCESS_REFUSED, code, str(user_id))

    async def login_without_session(self, user_id: UUID, strategy: str) -> None:
        """Write down a login that begins no session, once a day for each account and network.

        Each request of such a caller is a login.
        """

        async def tell() -> bool:
            return await self.record_alone(EventType.LOGIN, user_id=user_id, strategy=strategy)

        await _once(self._logins, tell, str(user_id), strategy)

    async def _add(self, store: Store, event: Event) -> None:
        await store.events.add(event)
        await self.on_event(store, event)

    async def _try(
        self,
        kind: EventType,
        write: Callable[[Store], Awaitable[None]],
        *,
        names_account: bool,
    ) -> bool:
        """Whether `write` is committed."""
        is_committed = False
        try:
            async with self._database.transaction() as store:
                await write(store)
            is_committed = True
        except StorageUnavailable:
            request_id = current_client().request_id
            _log.error("%s could not be written down", kind.value, extra={"request_id": request_id})
        finally:
            if not is_committed:  # cancelled as well: it takes no place of one that is written
                self.floods.withdraw(kind, names_account=names_account)
        return is_committed

    async def prune(self) -> int:
        """Remove events older than `events_retention`, in small batches; how many."""
        return await prune(
            self._database,
            "events",
            lambda store, limit: store.events.prune(
                before=first_id_at(now() - self._retention), limit=limit
            ),
        )

    async def page(self, user_id: UUID, *, before: UUID | None, limit: int) -> Sequence[Event]:
        """Up to `limit` events of a user, the newest first, beginning behind the id `before`."""
        async with self._database.read() as store:
            return await store.events.page(user_id, before=before, limit=limit)

    async def search(
        self, wanted: EventFilter, *, before: UUID | None = None, limit: int = 50
    ) -> Sequence[Event]:
        """Up to `limit` events of anybody, the newest first, beginning behind the id `before`."""
        async with self._database.read() as store:
            return await store.events.search(wanted, before=before, limit=limit)

    async def export(
        self,
        wanted: EventFilter,
        write: Callable[[Sequence[Event]], str],
        *,
        caller: Identity | None = None,
        superuser: bool = False,
        page_size: int | None = None,
    ) -> AsyncGenerator[str]:
        """All events that match, the newest first, as text: `write` makes it of one page each.

        After each page, and at the end, `caller` has to be one who may still read them, a superuser
        where that is asked for. Raises InvalidCredential, and TooManyRequests for a caller who has
        three exports under way in this process.

        One page is in memory at a time. No connection is held between two pages, and events that
        are written meanwhile are not included. In one process one page of all exports is read and
        written at a time, so that other requests run in between.
        """
        before = None
        with self._counted(caller):
            while True:
                async with self._exporting:
                    limit = page_size or _EXPORT_PAGE
                    page = await self.search(wanted, before=before, limit=limit)
                    text, before = (write(page), page[-1].id) if page else ("", before)
                    if caller is not None:
                        # After the page was read: a deleted account has none, or anonymous ones.
                        await require_still(self._database, caller, superuser=superuser)
                if not page:
                    return
                yield text

    @contextmanager
    def _counted(self, caller: Identity | None) -> Iterator[None]:
        owner = None if caller is None else caller.user.id
        if owner is not None and self._exports[owner] >= _EXPORTS_OF_ONE:
            raise TooManyRequests(retry_after=_EXPORT_AGAIN)
        self._exports[owner] += 1
        try:
            yield
        finally:
            self._exports[owner] -= 1
            if self._exports[owner] <= 0:
                del self._exports[owner]


async def _once(
    told: TTLCache[tuple[str, ...], bool], tell: Callable[[], Awaitable[bool]], *what: str
) -> None:
    """Call `tell` unless that was done for `what` and this network lately.

    What is not told after all, because `tell` is cancelled or gives False, is told the next time.
    """
    key = (*what, current_client().network)
    if key in told:
        return
    told[key] = True
    is_told = False
    try:
        is_told = await tell()
    finally:
        if not is_told:
            told.pop(key, None)


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


async def _nobody(_: Store, __: Event) -> None:
    return None


def _to_log(event: Event) -> None:
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
