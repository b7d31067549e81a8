"""Migrations that give way to sessions that hold locks on the tables for long, such as a dump."""

import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

from sqlalchemy.engine import Connection

from authapi.errors import StorageUnavailable

_LOCK_TIMEOUT = 2
"""Seconds that a migration waits for a lock on a table. All later statements on that table wait
behind it, and those of a service for `database_timeout` at most."""
_PATIENCE = 300.0
"""Seconds for which a migration is tried again that waited too long for a lock."""
_PAUSE = 3.0
"""Seconds between two attempts, in which the statements that waited behind it run."""
_LOCK_NOT_AVAILABLE = "55P03"
"""SQLSTATE `lock_not_available`."""

_log = logging.getLogger(__name__)


def retry_locks(
    connect: Callable[[], AbstractContextManager[Connection]],
    migrate: Callable[[Connection], None],
) -> None:
    """Calls `migrate` in a transaction whose waits for locks on PostgreSQL are short. Blocks.

    A migration takes locks that no other statement of a service is compatible with. Behind one that
    waits for a dump, every login would wait until the dump ends. So it gives up soon, and begins
    again after a pause, on a new connection of `connect`. Raises StorageUnavailable after five
    minutes, and the errors of both.
    """
    ends_at, has_waited = time.monotonic() + _PATIENCE, False
    while True:
        try:
            with connect() as connection:
                if connection.dialect.name == "postgresql":
                    connection.exec_driver_sql(f"SET lock_timeout = '{_LOCK_TIMEOUT}s'")
                migrate(connection)
            return
        except StorageUnavailable as error:
            if not _is_lock_timeout(error.__cause__):
                raise
            if time.monotonic() >= ends_at:
                raise StorageUnavailable(
                    "the migration was not possible for five minutes, because another session holds"
                    " locks on the tables, such as a dump: try again when it has ended"
                ) from error
        if not has_waited:
            has_waited = True
            _log.warning("another session holds locks on the tables: the migration is tried again")
        time.sleep(_PAUSE)


def _is_lock_timeout(error: BaseException | None) -> bool:
    return getattr(getattr(error, "orig", None), "sqlstate", None) == _LOCK_NOT_AVAILABLE
