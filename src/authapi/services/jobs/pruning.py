"""Deletes expired rows in batches, so that no transaction of a request waits long for a lock."""

from collections.abc import Awaitable, Callable

from authapi.storage import Database, Store

BATCH = 500
"""Rows deleted in one transaction."""


async def prune_in_batches(
    database: Database, table: str, delete: Callable[[Store, int], Awaitable[int]]
) -> int:
    """Calls `delete(store, BATCH)` in one transaction each, until it deletes less than a batch.

    `delete` deletes up to that many rows and returns how many it deleted. Stops early if another
    process prunes `table` at the moment. Returns the number of rows deleted. Raises
    StorageUnavailable.
    """
    total = 0
    while True:
        async with database.transaction() as store:
            if not await store.try_advisory_lock(f"prune {table}"):
                return total
            removed = await delete(store, BATCH)
        total += removed
        if removed < BATCH:
            return total
