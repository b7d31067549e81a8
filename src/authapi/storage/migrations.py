"""Runs the Alembic migrations in `alembic/`, which the wheel contains.

Alembic is imported by what runs or plans migrations, and not by the checks: a service whose schema
is current does without its memory.

All functions block: call them in a thread from async code. Those that take a `url` raise the errors
of `connect`, and ConfigurationError if the migrations are missing from the installation.
"""

import contextlib
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import URL, Connection
from sqlalchemy.exc import DBAPIError

from authapi.errors import ConfigurationError
from authapi.storage.models import tables_of
from authapi.storage.names import DEFAULT_NAMES, TableNames
from authapi.storage.postgres import poolers
from authapi.storage.postgres.connection import NAMED, apply_on_connect
from authapi.storage.postgres.session_parameters import command_parameters
from authapi.storage.schema.adoption import (
    adopt,
    require_free_names,
    require_schema,
    require_version_table,
)
from authapi.storage.schema.command_connections import create_private, translated
from authapi.storage.schema.lock_retries import only_migration, retry_locks
from authapi.storage.schema.revisions import (
    earlier,
    folder,
    head,
    is_newer,
    oldest_code,
    require_usable,
)
from authapi.storage.schema.writability import READ_ONLY_QUERY, noop_write
from authapi.storage.urls import parse_url

if TYPE_CHECKING:
    from alembic.config import Config
    from alembic.runtime.migration import MigrationInfo

__all__ = [
    "DowngradePlan",
    "OnStep",
    "Step",
    "check",
    "connect",
    "current",
    "downgrade",
    "downgrade_plan",
    "earlier",
    "head",
    "is_pooled",
    "oldest_code",
    "require_current",
    "require_writable",
    "upgrade",
]

_CONNECT_TIMEOUT = 10
"""Seconds."""


@dataclass(frozen=True, slots=True)
class Step:
    """A migration that has run."""

    before: str | None
    """The revision before; None for an empty schema."""
    after: str | None
    text: str
    """What the migration does, in a few words."""


OnStep = Callable[[Step], None]


def upgrade(
    url: str,
    revision: str = "head",
    *,
    names: TableNames = DEFAULT_NAMES,
    on_step: OnStep | None = None,
) -> None:
    """Upgrades the schema to `revision`. Concurrent upgrades run one after the other.

    `on_step` is called after each migration.

    Creates the schema of `names` if it does not exist. Tables that a version of authapi without
    prefixes has created are renamed first, with their rows.

    Raises ConfigurationError for an unknown revision, for a migration that fails, if another
    application has a table with one of our names, and for a newer schema that this code cannot use;
    a newer one that it can use stays. Raises StorageUnavailable after 60 seconds of waiting for
    another migration, and if another session, such as a dump, holds a lock on our tables for five
    minutes. It waits half a second at most for each lock, and then begins the step again.

    The tables of an empty database, and all steps on SQLite, are one transaction. On PostgreSQL
    with tables, each step is one, so that no lock is held while the next step waits for its own;
    what failed keeps the steps before.
    """
    with _only_migration(url):
        retry_locks(
            _connecting(url), partial(_upgrade, revision=revision, names=names, on_step=on_step)
        )


def _upgrade(
    connection: Connection, *, revision: str, names: TableNames, on_step: OnStep | None
) -> None:
    require_schema(connection, names)
    names = _found(connection, names)
    found, is_atomic = _revision(connection, names), False
    if found is None:
        from alembic.script import ScriptDirectory  # noqa: PLC0415  # see above

        scripts = ScriptDirectory.from_config(_config())
        if not adopt(connection, names, scripts):
            require_free_names(connection, names)
            is_atomic = True
    elif revision == "head" and (found == head() or found not in earlier()):
        require_usable(found)
        return  # at almost every start: Alembic would read its files for nothing
    _run(connection, names, "upgrade", revision, on_step=on_step, is_atomic=is_atomic)


def downgrade(
    url: str, revision: str, *, names: TableNames = DEFAULT_NAMES, on_step: OnStep | None = None
) -> None:
    """Downgrades the schema to `revision`. `base` drops all tables with their data.

    `on_step` is called after each migration.

    Raises the errors of `upgrade`. All steps are one transaction.
    """

    def run(connection: Connection) -> None:
        names_found = _found(connection, names)
        _run(connection, names_found, "downgrade", revision, on_step=on_step, is_atomic=True)

    with _only_migration(url):
        retry_locks(_connecting(url), run)


def _connecting(url: str) -> Callable[[], AbstractContextManager[Connection]]:
    return partial(connect, url, writes=True, check_pooler=False)


def _only_migration(url: str) -> AbstractContextManager[None]:
    # On SQLite, the write lock of the one transaction is enough. A pooler that shares sessions
    # would keep the lock of PostgreSQL, so `connect` refuses it first.
    is_sqlite = parse_url(url).get_backend_name() == "sqlite"
    return contextlib.nullcontext() if is_sqlite else only_migration(partial(connect, url))


@dataclass(frozen=True, slots=True)
class DowngradePlan:
    """The effect of a downgrade."""

    current: str | None
    target: str | None
    """The revision after the downgrade; None for an empty schema."""
    steps: Sequence[str]
    """The revisions that are reverted, the newest first."""
    rows: Mapping[str, int]
    """The present number of rows of each table, by its name without the prefix."""
    database: str
    """The name of the database; for SQLite, that of its file."""


def downgrade_plan(url: str, revision: str, *, names: TableNames = DEFAULT_NAMES) -> DowngradePlan:
    """Returns what `downgrade` would do, without any change. Raises the errors of `downgrade`."""
    from alembic.script import ScriptDirectory  # noqa: PLC0415  # see above
    from alembic.script.revision import RevisionError  # noqa: PLC0415
    from alembic.util.exc import CommandError  # noqa: PLC0415

    scripts = ScriptDirectory.from_config(_config())
    with connect(url) as connection:
        names = _found(connection, names)
        current_revision = _revision(connection, names)
        try:
            path = list(
                scripts.iterate_revisions(current_revision, revision, select_for_downgrade=True)
                if current_revision
                else ()
            )
        except (CommandError, RevisionError) as error:
            raise ConfigurationError(str(error)) from None
        existing = set(sa.inspect(connection).get_table_names(names.schema))
        rows = {
            table.name.removeprefix(names.prefix): connection.scalar(
                sa.select(sa.func.count()).select_from(table)
            )
            or 0
            for table in tables_of(names).metadata.sorted_tables
            if table.name in existing
        }
    steps = [script.revision for script in path]
    target = path[-1].down_revision if path else current_revision
    database = Path(parse_url(url).database or "").name
    return DowngradePlan(
        current_revision, target if isinstance(target, str) else None, steps, rows, database
    )


def current(url: str, *, names: TableNames = DEFAULT_NAMES) -> str | None:
    """Returns the revision of the database, or None if it has no schema of this service yet."""
    with connect(url) as connection:
        return _revision(connection, _found(connection, names))


def check(url: str, *, names: TableNames = DEFAULT_NAMES) -> None:
    """Checks that our tables in the database match `storage.models`. Ignores all other tables.

    Raises ConfigurationError, with the difference, if they do not, and the errors of
    `require_current`.
    """
    from alembic.util.exc import AutogenerateDiffsDetected  # noqa: PLC0415  # see above

    require_current(url, names=names)
    with connect(url) as connection:
        found = _revision(connection, _found(connection, names))
        if is_newer(found):
            raise ConfigurationError(
                f"the schema is at {found} and newer than this version, which needs {head()}"
            )
        try:
            _run(connection, _found(connection, names), "check")
        except AutogenerateDiffsDetected as error:
            raise ConfigurationError(f"the schema differs from the models: {error}") from None


def require_current(url: str, *, names: TableNames = DEFAULT_NAMES) -> None:
    """Checks that the database has a schema that this code can use: its own, or a newer one.

    Raises ConfigurationError, with what to do, if it is too old, or newer and not for this code
    (`storage.schema.revisions`).
    """
    require_usable(current(url, names=names))


def require_writable(url: str, *, names: TableNames = DEFAULT_NAMES) -> None:
    """Checks that the database accepts writes. Raises ConfigurationError if it is read-only."""
    with connect(url, writes=True) as connection:
        if connection.dialect.name == "sqlite":
            connection.execute(noop_write(tables_of(names)))
        elif connection.scalar(sa.text(READ_ONLY_QUERY)):
            raise ConfigurationError(
                "the database is read-only, as a standby is: connect to the primary server, or"
                " reset default_transaction_read_only for the database and its role"
            )


def _config() -> "Config":
    from alembic.config import Config  # noqa: PLC0415  # see above

    config = Config(stdout=io.StringIO(), output_buffer=io.StringIO())
    config.set_main_option("script_location", str(folder()).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def _found(connection: Connection, names: TableNames) -> TableNames:
    # Alembic and the inspector call the first schema of the `search_path` None.
    is_default = names.schema == connection.dialect.default_schema_name
    return replace(names, schema=None) if is_default else names


def _revision(connection: Connection, names: TableNames) -> str | None:
    if not require_version_table(connection, names):
        return None
    versions = sa.table(names.version, sa.column("version_num"), schema=names.schema)
    found = connection.scalars(sa.select(versions.c.version_num)).all()
    if len(found) > 1:
        raise ConfigurationError(f"the table {names.version} has several revisions")
    return found[0] if found else None


def _run(
    connection: Connection,
    names: TableNames,
    name: str,
    *arguments: str,
    on_step: OnStep | None = None,
    is_atomic: bool = False,
) -> None:
    from alembic import command  # noqa: PLC0415  # see above
    from alembic.util.exc import AutogenerateDiffsDetected, CommandError  # noqa: PLC0415

    config = _config()
    is_postgres = connection.dialect.name == "postgresql"
    if is_postgres and not is_atomic:
        connection.commit()  # Alembic would leave a transaction that it has not begun to us
    config.attributes.update(connection=connection, table_names=names, is_atomic=is_atomic)
    if on_step is not None:
        config.attributes["on_version_apply"] = partial(_report, on_step)
    try:
        getattr(command, name)(config, *arguments)
    except AutogenerateDiffsDetected:
        raise
    except CommandError as error:
        raise ConfigurationError(str(error)) from None


def _report(on_step: OnStep, *, step: "MigrationInfo", **_: object) -> None:
    ids = step.up_revision_id, next(iter(step.down_revision_ids), None)
    after, before = ids if step.is_upgrade else reversed(ids)
    doc = getattr(step.up_revision, "doc", None) or ""  # a Script, which alembic does not type
    on_step(Step(before, after, doc.rstrip(".")))


@contextlib.contextmanager
def connect(url: str, *, writes: bool = False, check_pooler: bool = True) -> Iterator[Connection]:
    """Opens a connection for migrations and checks, outside of any pool.

    With `writes`, a transaction on SQLite waits for other writers. With `check_pooler`,
    `postgres.poolers.check_on_connect` checks the connection.

    Raises StorageUnavailable if the database does not answer. Raises ConfigurationError for an
    invalid `url`, a SQLite file that cannot be opened, a pooler that shares sessions, a database
    whose encoding is not UTF8, and every other error of the driver. Each message is one line.
    """
    target = parse_url(url)
    is_sqlite = target.get_backend_name() == "sqlite"
    if is_sqlite:
        target = target.set(drivername="sqlite")
        create_private(Path(target.database or ""))
    engine = _engine(target)
    if is_sqlite:
        # sqlite3 would commit before each change of the schema. One transaction around all of them
        # reverts a failed migration, and serializes the migrations of several processes.
        begin = "BEGIN IMMEDIATE" if writes else "BEGIN"
        event.listen(engine, "connect", lambda raw, _: setattr(raw, "isolation_level", None))
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(begin))
    else:
        parameters = command_parameters(target)
        apply_on_connect(engine, parameters)
        if check_pooler:
            poolers.check_on_connect(engine, parameters)
    try:
        with engine.connect() as connection:
            yield connection
    except DBAPIError as error:
        raise translated(error, target) from error
    finally:
        engine.dispose()


def is_pooled(url: str) -> bool:
    """Returns whether there is a connection pooler in front of the database.

    Such a pooler keeps a session for each client: `connect` refuses the others.
    """
    if parse_url(url).get_backend_name() == "sqlite":
        return False
    with connect(url) as connection:
        return poolers.is_pooled(connection)


def _engine(target: URL) -> sa.Engine:
    options: dict[str, object] = {}
    if target.get_backend_name() != "sqlite":
        options.update(command_parameters(target).arguments(with_own=False))
        options.update(NAMED)
        options["prepare_threshold"] = None  # no gain for a connection of a few statements
        if "connect_timeout" not in target.query:
            options["connect_timeout"] = _CONNECT_TIMEOUT
    return sa.create_engine(
        target, connect_args=options, poolclass=sa.NullPool, hide_parameters=True
    )
