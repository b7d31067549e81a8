"""Deletes expired rows in batches, so that no transaction of a request waits long for a lock."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from authapi.storage import Database, Store

BATCH = 500
"""Rows deleted in one transaction."""

Watcher = Callable[[str, int], None]
"""Is called with the name of a table, and how many of its rows are deleted so far."""
_watcher: ContextVar[Watcher | None] = ContextVar("authapi_pruning_watcher", default=None)
"""A context variable, because only a command watches, and every service prunes."""


@contextmanager
def watch_pruning(watcher: Watcher) -> Iterator[None]:
    """Calls `watcher` after each batch that this task deletes in the block."""
    token = _watcher.set(watcher)
    try:
        yield
    finally:
        _watcher.reset(token)


async def prune_in_batches(
    database: Database, table: str, delete: Callable[[Store, int], Awaitable[int]]
) -> int:
    """Calls `delete(store, BATCH)` in one transaction each, until it deletes less than a batch.

    `delete` deletes up to that many rows and returns how many it deleted. Stops early if another
    process prunes `table` at the moment. Returns the number of rows deleted. Raises
    StorageUnavailable.
    """
    total, watcher = 0, _watcher.get()
    while True:
        async with database.transaction() as store:
            if not await store.try_advisory_lock(f"prune {table}"):
                return total
            removed = await delete(store, BATCH)
        total += removed
        if watcher is not None:
            watcher(table, total)
        if removed < BATCH:
            return total
