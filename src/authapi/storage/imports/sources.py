"""Sources of an import: the tables of other systems. They are only read, in chunks of rows."""

import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import URL, Engine
from sqlalchemy.exc import SQLAlchemyError

from authapi.errors import ConfigurationError, StorageUnavailable
from authapi.storage.postgres import poolers
from authapi.storage.postgres.connection import apply_on_connect
from authapi.storage.postgres.session_parameters import command_parameters
from authapi.storage.urls import parse_url

_CHUNK_SIZE = 500
"""Rows."""
_CONNECT_TIMEOUT = 10
"""Seconds."""

_COLUMNS_OF_FASTAPI_USERS = (
    sa.column("email", sa.String),
    sa.column("hashed_password", sa.String).label("password_hash"),
    sa.column("is_active", sa.Boolean),
    sa.column("is_superuser", sa.Boolean),
    sa.column("is_verified", sa.Boolean).label("email_confirmed"),
)


def fastapi_users(
    url: str, table: str = "user", *, with_ids: bool = False
) -> Iterator[Mapping[str, object]]:
    """Yields each account of a fastapi-users database, as the members of one import line.

    `url` is the URL that the application uses; its driver does not matter. `table` is the table of
    the SQLAlchemy adapter, with or without its schema. One statement reads it, so all rows are of
    the same moment. With `with_ids`, the lines have the member `id`.

    Raises ConfigurationError if `url` or `table` is invalid or the table cannot be read. The
    message does not contain the password of `url`.
    """
    columns = [*_COLUMNS_OF_FASTAPI_USERS]
    if with_ids:
        columns.insert(0, sa.column("id").label("id"))
    statement = sa.select(*columns).select_from(_table(table))
    parsed = parse_url(url)
    engine = _reader(parsed)
    try:
        with engine.connect() as connection:
            rows = connection.execution_options(stream_results=True, yield_per=_CHUNK_SIZE)
            for row in rows.execute(statement):
                yield row._asdict()
    except (SQLAlchemyError, StorageUnavailable, UnicodeError):
        # The error itself is not reported: drivers include connection arguments in their messages.
        names = ["id"] * with_ids + ["email", "hashed_password", "is_active", "is_superuser"]
        raise ConfigurationError(
            f"the table of fastapi-users cannot be read: a table named {table} with the columns"
            f" {', '.join(names)} and is_verified is required in "
            + parsed.set(drivername=parsed.get_backend_name(), query={}).render_as_string()
        ) from None
    finally:
        engine.dispose()


def _table(name: str) -> sa.TableClause:
    schema, _, table = name.rpartition(".")
    if not table or (not schema and "." in name):
        raise ConfigurationError(f"not the name of a table: {name}")
    return sa.table(table, schema=schema or None)


def _reader(url: URL) -> Engine:
    if url.get_backend_name() == "sqlite":
        # Without mode=ro, SQLite creates a missing file.
        file = Path(url.database or "").absolute().as_uri() + "?mode=ro"
        return sa.create_engine(
            "sqlite://", creator=lambda: sqlite3.connect(file, uri=True), poolclass=sa.NullPool
        )
    parameters = command_parameters(url)
    options = {"connect_timeout": _CONNECT_TIMEOUT, "prepare_threshold": None}
    try:
        engine = sa.create_engine(
            url,
            connect_args={**options, **parameters.arguments(with_own=False)},
            # Sent with each BEGIN, because a pooler may ignore a start-up parameter.
            execution_options={"postgresql_readonly": True},
            poolclass=sa.NullPool,
            hide_parameters=True,
        )
    except ImportError:
        raise ConfigurationError(
            "PostgreSQL needs the extra: pip install 'fastapi-authapi[postgres]'"
        ) from None
    apply_on_connect(engine, parameters, require_utf8=False)
    poolers.check_on_connect(engine, parameters)
    return engine
