"""Migrations that give way to sessions that hold locks on the tables for long, such as a dump."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from sqlalchemy.engine import Connection

from authapi.errors import StorageUnavailable

_LOCK_KEY = 0x61757468617069
"""The advisory lock of migrations: `authapi` in ASCII, which other programs hardly use."""
_TURN_TIMEOUT, _TURN_PAUSE = 60.0, 0.2
"""Seconds that a migration waits for another one, and between two looks."""
_LOCK_TIMEOUT = 0.5
"""Seconds that a migration waits for a lock on a table. All later statements on that table wait
behind it. Shorter than `deadlock_timeout`, so that it is the migration that gives way. A step that
locks three tables delays a request by less than two seconds."""
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
    """Calls `migrate` on a connection whose waits for locks on PostgreSQL are short. Blocks.

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
                    connection.exec_driver_sql(
                        f"SET lock_timeout = '{int(_LOCK_TIMEOUT * 1000)}ms'"
                    )
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


@contextmanager
def only_migration(connect: Callable[[], AbstractContextManager[Connection]]) -> Iterator[None]:
    """Keeps other migrations of a PostgreSQL server out during the block. Blocks.

    The advisory lock is on a connection of its own, and the server releases it when the process
    ends, even if it is killed. Raises StorageUnavailable after 60 seconds of waiting.
    """
    with connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT")
        ends_at = time.monotonic() + _TURN_TIMEOUT
        # Not `pg_advisory_lock`: a statement that waits has a snapshot, for whose end the other
        # migration would wait when it builds an index concurrently.
        while not connection.exec_driver_sql(f"SELECT pg_try_advisory_lock({_LOCK_KEY})").scalar():
            if time.monotonic() >= ends_at:
                raise StorageUnavailable(
                    "another migration of this database has been running for 60 seconds"
                )
            time.sleep(_TURN_PAUSE)
        yield


def _is_lock_timeout(error: BaseException | None) -> bool:
    return getattr(getattr(error, "orig", None), "sqlstate", None) == _LOCK_NOT_AVAILABLE
