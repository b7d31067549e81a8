"""The schema of the database: migrated, or checked to be up to date, before a start."""

import threading

from authapi.errors import ConfigurationError
from authapi.services.keys.secret import prepare_data_dir
from authapi.settings import Settings
from authapi.settings.service import is_default_password
from authapi.storage import Database, migrations
from authapi.storage.names import TableNames
from authapi.storage.notifications import PostgresNotifications
from authapi.storage.postgres.credentials import credentials_in_use
from authapi.storage.readiness.probe import require_ready
from authapi.storage.schema.described import require_described
from authapi.storage.urls import parse_url

__all__ = ["check_direct_url", "prepare", "require_ready"]

_lock = threading.Lock()
"""Alembic keeps its state in module attributes: one thread at a time."""


def prepare(settings: Settings) -> None:
    """Migrates the schema if `migrate` says so; otherwise checks that it is usable. Blocks.

    By default SQLite is migrated, as one service owns the file; PostgreSQL is not, as its operator
    decides when. Creates the data folder for SQLite. Raises ConfigurationError if the schema is out
    of date, if the application uses `authapi.orm` with other names, if the database or the data
    folder cannot be used, if there is a pooler that shares sessions and is not declared, or, in
    production, if the password of the database is a default one.
    """
    url, names = settings.resolved_direct_url, TableNames.of(settings)
    require_described(names)
    with _lock:
        if settings.database_url is None:
            prepare_data_dir(settings.data_dir)
        if settings.migrates:
            migrations.upgrade(url, names=names)
        else:
            migrations.require_current(url, names=names)
    if settings.database_direct_url is not None and settings.database_pooler is None:
        migrations.is_pooled(settings.resolved_database_url)  # raises if sessions are shared
    if settings.env == "production" and not settings.is_embedded:
        _refuse_default_passwords(settings)


def _refuse_default_passwords(settings: Settings) -> None:
    # The settings have refused those in a URL.
    for url in {settings.resolved_database_url, settings.resolved_direct_url}:
        if is_default_password(*credentials_in_use(parse_url(url))):
            raise ConfigurationError(
                "the database has a default password, from PGPASSWORD, a password file or a service"
                " file"
            )


async def check_direct_url(database: Database, settings: Settings) -> None:
    """Checks that `database_direct_url`, if it is set, names the database of `database_url`.

    Otherwise migrations would change another database, and no notification would arrive. Raises
    ConfigurationError, and StorageUnavailable if one of the two does not answer.
    """
    notifications = database.notifications
    if settings.direct_url is None or not isinstance(notifications, PostgresNotifications):
        return
    if await notifications.identity() != await database.identity():
        raise ConfigurationError(
            "AUTHAPI_DATABASE_URL and AUTHAPI_DATABASE_DIRECT_URL name different databases"
        )
