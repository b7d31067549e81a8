"""The engine of a service on PostgreSQL: with sessions of its own, or with shared ones.

A pooler in transaction mode gives a session to another client after each transaction. What a
connection sets for its session would then apply to other clients, and what it prepared would be
unknown or belong to them. On shared sessions, no connection sets or prepares anything, and each
transaction sets its parameters for itself. A read outside of a transaction is one statement, which
the client alone bounds in time.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import URL, Connection
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from authapi.errors import ConfigurationError
from authapi.storage.postgres.connection import (
    bound_pings,
    drop_outdated,
    has_several_hosts,
    invalidate_stale,
    pool_connection_factory,
    shared_connection_factory,
)
from authapi.storage.postgres.servers import ReachedServer
from authapi.storage.postgres.session_parameters import SessionParameters, service_parameters


@dataclass(frozen=True, slots=True)
class PostgresEngine:
    """An engine, and the engines on its pool that run single reads and transactions."""

    engine: AsyncEngine
    reader: AsyncEngine
    writer: AsyncEngine
    connect_arguments: Mapping[str, Any]
    """The arguments of each connection: its bounds in time, and the function that opens it."""


def postgres_engine(
    url: URL,
    options: Mapping[str, Any],
    reached: ReachedServer,
    *,
    timeout: float,
    max_idle: float,
    is_shared: bool,
) -> PostgresEngine:
    """Returns an engine with the pool `options`, whose connections have the service's parameters.

    `timeout` and `max_idle` are those of `service_parameters`. `is_shared` declares that a pooler
    shares sessions between clients. `reached` is set to the server of each new connection, or of
    each transaction if sessions are shared.

    Raises ConfigurationError without the extra `postgres`, and if sessions are shared and the URL
    or the environment has the start-up parameter `options`.
    """
    parameters = service_parameters(url, timeout=timeout, max_idle=max_idle)
    if is_shared and parameters.url_options:
        raise ConfigurationError(
            "the database URL or PGOPTIONS has options, which a pooler in transaction mode does not"
            " apply: remove them, and use ALTER ROLE ... SET, or AUTHAPI_DATABASE_SCHEMA"
        )
    silence = timeout + 1  # the server ends a statement before
    arguments = {
        "connect_timeout": max(2, int(timeout)),
        "tcp_user_timeout": int(timeout * 1000),
        "async_creator_fn": (
            shared_connection_factory(silence=silence)
            if is_shared
            else pool_connection_factory(parameters, reached, silence=silence)
        ),
    }
    engine = create_async_engine(
        url,
        **options,
        max_overflow=0,
        hide_parameters=True,
        pool_pre_ping=True,
        connect_args=arguments,
    )
    event.listen(engine.sync_engine, "handle_error", invalidate_stale)
    if has_several_hosts(engine):
        bound_pings(engine.sync_engine)
        drop_outdated(engine.sync_engine)
    # A single statement needs no transaction: that saves two round trips.
    reader = engine.execution_options(isolation_level="AUTOCOMMIT")
    if not is_shared:
        return PostgresEngine(engine, reader, engine.execution_options(), arguments)
    # A statement after an advisory lock has to see what the previous holder committed.
    writer = engine.execution_options(isolation_level="READ COMMITTED")
    _set_in_each_transaction(writer, parameters, reached)
    return PostgresEngine(engine, reader, writer, arguments)


def _set_in_each_transaction(
    engine: AsyncEngine, parameters: SessionParameters, reached: ReachedServer
) -> None:
    statement = sa.text(parameters.local_statement())

    def set_parameters(connection: Connection) -> None:
        reached.started = connection.scalar(statement)

    event.listen(engine.sync_engine, "begin", set_parameters)
