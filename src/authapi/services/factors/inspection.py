"""What can be wrong with the second factors of an installation."""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from authapi.clock import now
from authapi.storage import Database


async def find_out_of_step(database: Database, *, limit: int) -> Sequence[UUID]:
    """Returns up to `limit` accounts whose `mfa_since` does not match their factors.

    Each change of factors sets it in its transaction, so another program has changed the rows.
    Raises StorageUnavailable if the database does not answer.
    """
    async with database.read() as store:
        return await store.totp_factors.users_out_of_step(limit=limit)


async def clock_difference(database: Database) -> timedelta | None:
    """Returns how far the clock of this host is ahead of that of the database; None on SQLite.

    Codes of authenticator apps are compared with the time of this host. The result is accurate to
    the duration of a query. Raises StorageUnavailable if the database does not answer.
    """
    async with database.read() as store:
        before = now()
        there = await store.server_time()
        after = now()
    return None if there is None else before + (after - before) / 2 - there
