"""Deletion of expired rows: logins that wait for a second factor, enrolments, challenges."""

from authapi.clock import now
from authapi.services.jobs.pruning import prune_in_batches
from authapi.storage import Database


async def prune_login_tickets(database: Database) -> int:
    """Deletes expired tickets in batches; returns their number. Raises StorageUnavailable."""
    return await prune_in_batches(
        database,
        "login tickets",
        lambda store, limit: store.login_tickets.prune(now=now(), limit=limit),
    )


async def prune_used_challenges(database: Database) -> int:
    """Deletes used challenges that have expired in batches; returns their number.

    Raises StorageUnavailable.
    """
    return await prune_in_batches(
        database,
        "used challenges",
        lambda store, limit: store.used_challenges.prune(now=now(), limit=limit),
    )


async def prune_enrolments(database: Database) -> int:
    """Deletes enrolments of authenticator apps that were not confirmed in time; their number.

    Raises StorageUnavailable.
    """
    return await prune_in_batches(
        database,
        "enrolments",
        lambda store, limit: store.totp_factors.prune(now=now(), limit=limit),
    )
