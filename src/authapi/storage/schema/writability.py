"""Statements that tell whether a database accepts writes."""

from typing import Final

import sqlalchemy as sa

from authapi.storage.models import Tables

READ_ONLY_QUERY: Final = "SELECT current_setting('transaction_read_only')::boolean"
"""For PostgreSQL. Also true on a standby (PostgreSQL, Hot Standby Parameter Reference)."""


def noop_write(tables: Tables) -> sa.Delete:
    """Returns a write without effect.

    It fails on a read-only SQLite file, where `BEGIN IMMEDIATE` succeeds.
    """
    return sa.delete(tables.users).where(sa.false())
