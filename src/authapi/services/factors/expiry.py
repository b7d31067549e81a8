"""Deletion of expired rows: logins that wait for a second factor, enrolments, challenges."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from authapi.clock import now
from authapi.services.jobs.pruning import prune_in_batches
from authapi.storage import Database, Store


class _Prunable(Protocol):
    """A table with rows that expire."""

    @property
    def prune(self) -> Callable[..., Awaitable[int]]:
        """Deletes up to `limit` rows that have expired at `now`; returns their number."""


EXPIRING: Mapping[str, Callable[[Store], _Prunable]] = {
    "login tickets": lambda store: store.login_tickets,
    "enrolments": lambda store: store.totp_factors,
    "used challenges": lambda store: store.used_challenges,
}
"""The tables, by the name that the log has for their rows."""


async def prune_expired(database: Database, name: str) -> int:
    """Deletes the expired rows of the table `name` of `EXPIRING` in batches; returns their number.

    Raises StorageUnavailable.
    """
    table = EXPIRING[name]
    return await prune_in_batches(
        database, name, lambda store, limit: table(store).prune(now=now(), limit=limit)
    )
