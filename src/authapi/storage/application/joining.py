"""Transactions that services join instead of opening their own.

Inside `joining(store)`, a service that opens a transaction gets a savepoint of the transaction of
`store`. The block ends with the call that it is around, so no other code joins by accident.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from authapi.storage.database import Store

_joined: ContextVar["tuple[object, Store] | None"] = ContextVar("authapi_joined", default=None)


@contextmanager
def joining(database: object, store: "Store") -> Iterator[None]:
    """Makes the services of `database` use `store` inside the block."""
    token = _joined.set((database, store))
    try:
        yield
    finally:
        _joined.reset(token)


def joined_store(database: object) -> "Store | None":
    """Returns the store that services of `database` join now, or None."""
    joined = _joined.get()
    return joined[1] if joined is not None and joined[0] is database else None


@asynccontextmanager
async def savepoint(store: "Store") -> "AsyncIterator[Store]":
    """Gives access to the tables inside a savepoint of the transaction of `store`.

    If the block raises, its changes, events and outbox entries are undone, and the transaction goes
    on.
    """
    events, queued, callbacks = len(store.events.added), store.outbox.added, len(store.on_end)
    try:
        async with store.connection.begin_nested():
            yield store
    except BaseException:
        del store.events.added[events:]
        store.outbox.added = queued
        undone = store.on_end[callbacks:]
        del store.on_end[callbacks:]
        for callback in undone:
            callback(False)
        raise
