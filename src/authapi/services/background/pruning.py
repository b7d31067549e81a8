"""How rows that had their time go: a batch at a time, so that nobody waits for it."""

from collections.abc import Awaitable, Callable

from authapi.storage import Database, Store

BATCH = 500
"""Rows of one transaction."""


async def prune(
    database: Database, what: str, remove: Callable[[Store, int], Awaitable[int]]
) -> int:
    """Call `remove` with a number of rows at most, until it removes fewer; how many went in all.

    Leaves `what` to another process that is at it.
    """
    total = 0
    while True:
        async with database.transaction() as store:
            if not await store.take_turn(f"prune {what}"):
                return total
            removed = await remove(store, BATCH)
        total += removed
        if removed < BATCH:
            return total
