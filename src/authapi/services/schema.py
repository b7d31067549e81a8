"""The schema of the database: migrated, or checked to be up to date, before a start."""

import threading

from authapi.services.keys.secret import prepare_data_dir
from authapi.settings import Settings
from authapi.storage import migrations
from authapi.storage.names import TableNames
from authapi.storage.readiness.probe import require_ready
from authapi.storage.schema.described import require_described

__all__ = ["prepare", "require_ready"]

_lock = threading.Lock()
"""Alembic keeps its state in module attributes: one thread at a time."""


def prepare(settings: Settings) -> None:
    """Migrates the schema if `migrate` says so; otherwise checks that it is usable. Blocks.

    By default SQLite is migrated, as one service owns the file; PostgreSQL is not, as its operator
    decides when. Creates the data folder for SQLite. Raises ConfigurationError if the schema is out
    of date, if the application uses `authapi.orm` with other names, or if the database or the data
    folder cannot be used.
    """
    url, names = settings.resolved_database_url, TableNames.of(settings)
    require_described(names)
    with _lock:
        if settings.database_url is None:
            prepare_data_dir(settings.data_dir)
        if settings.migrates:
            migrations.upgrade(url, names=names)
        else:
            migrations.require_current(url, names=names)
