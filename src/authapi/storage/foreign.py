"""The tables of other systems, read for an import: never written to, and a few rows at a time."""

import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import URL, Engine
from sqlalchemy.exc import SQLAlchemyError

from authapi.errors import ConfigurationError, StorageUnavailable
from authapi.storage import poolers
from authapi.storage.patience import set_on_connect
from authapi.storage.postgres.parameters import for_command
from authapi.storage.urls import parse_url

_AT_ONCE = 500
_CONNECTING = 10
"""Seconds."""

_users_of_fastapi_users = sa.table(
    "user",
    sa.column("email", sa.String),
    sa.column("hashed_password", sa.String),
    sa.column("is_active", sa.Boolean),
    sa.column("is_superuser", sa.Boolean),
    sa.column("is_verified", sa.Boolean),
)


def fastapi_users(url: str) -> Iterator[Mapping[str, object]]:
    """Each account of a database of fastapi-users, as the members of a line to import.

    `url` is what its application uses, whichever driver it names. Read is the `user` table of
    its SQLAlchemy adapter, in one statement and so as of one moment. Raises ConfigurationError,
    which does not repeat the password of `url`.
    """
    it = _users_of_fastapi_users.c
    statement = sa.select(
        it.email,
        it.hashed_password.label("password_hash"),
        it.is_active,
        it.is_superuser,
        it.is_verified.label("email_confirmed"),
    )
    parsed = parse_url(url)
    engine = _reader(parsed)
    try:
        with engine.connect() as connection:
            rows = connection.execution_options(stream_results=True, yield_per=_AT_ONCE)
            for row in rows.execute(statement):
                yield row._asdict()
    except (SQLAlchemyError, StorageUnavailable, UnicodeDecodeError):
        # Of the error itself nothing is told: drivers put into it what they were given.
        raise ConfigurationError(
            "the table of fastapi-users cannot be read: a table named user with the columns email,"
            " hashed_password, is_active, is_superuser and is_verified is looked for in "
            + parsed.set(drivername=parsed.get_backend_name(), query={}).render_as_string()
        ) from None
    finally:
        engine.dispose()


def _reader(url: URL) -> Engine:
    if url.get_backend_name() == "sqlite":
        # Only this way does SQLite make no file where there is none.
        file = Path(url.database or "").absolute().as_uri() + "?mode=ro"
        return sa.create_engine(
            "sqlite://", creator=lambda: sqlite3.connect(file, uri=True), poolclass=sa.NullPool
        )
    parameters = for_command(url)
    options = {"connect_timeout": _CONNECTING, "prepare_threshold": None}
    try:
        engine = sa.create_engine(
            url,
            connect_args={**options, **parameters.arguments(with_ours=False)},
            # Said by each BEGIN: a start-up parameter could be ignored by a pooler.
            execution_options={"postgresql_readonly": True},
            poolclass=sa.NullPool,
            hide_parameters=True,
        )
    except ImportError:
        raise ConfigurationError(
            "PostgreSQL needs the extra: pip install 'fastapi-authapi[postgres]'"
        ) from None
    set_on_connect(engine, parameters, is_own=False)
    poolers.guard(engine, parameters)
    return engine
