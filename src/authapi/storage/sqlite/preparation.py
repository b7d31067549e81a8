"""Listeners of an engine for SQLite: each new connection, and the begin of each transaction."""

import asyncio
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy.engine import Connection

from authapi.storage.notifications import file_identity

WRITES = "authapi_write"
"""The execution option of connections whose transactions write."""
_WAL_TIMEOUT, _WAL_PAUSE = 5.0, 0.02
"""Seconds to retry the switch of a new file to a write-ahead log, and between retries."""


def require_file(_: object, __: object, arguments: Sequence[str], ___: object) -> None:
    """Refuses to open a file that is missing. Raises sqlite3.OperationalError."""
    # SQLite would create an empty file. The migrations create it, with its mode and tables.
    if file_identity(Path(arguments[0])) is None:
        raise sqlite3.OperationalError("the database file is missing")


def prepare_sqlite(connection: Any, _: object) -> None:
    """Sets the journal and the pragmas of a new connection. Raises sqlite3.OperationalError."""
    # `begin_sqlite` sends BEGIN. sqlite3 would send a deferred one, whose upgrade to a write fails
    # without waiting if another transaction is writing.
    connection.isolation_level = None
    cursor = connection.cursor()
    _enable_wal(connection, cursor)
    cursor.execute("PRAGMA synchronous=FULL")  # a committed write survives a power failure
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _enable_wal(connection: Any, cursor: Any) -> None:
    # The first process that opens a new file switches its journal mode permanently. SQLite does not
    # wait for this while another process writes: of several processes that start at the same time,
    # all but one would fail.
    deadline = time.monotonic() + _WAL_TIMEOUT
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            connection.run_async(lambda _: asyncio.sleep(_WAL_PAUSE))
        else:
            return


def begin_sqlite(connection: Connection) -> None:
    """Begins a transaction that writes; other statements need none."""
    if connection.get_execution_options().get(WRITES):
        connection.exec_driver_sql("BEGIN IMMEDIATE")
