"""Databases for tests on a PostgreSQL server, and the rows to which each test returns.

To copy a database takes more than twenty milliseconds, and a running application would lose its
connections. To delete the rows of all tables takes one or two, as tests have few of them.
"""

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection, Row

from authapi.storage import migrations
from authapi.storage.driver_errors import translate_driver_errors
from authapi.storage.urls import parse_url

_COPIES = "authapi_test_rows"
"""The schema with the copied rows."""
_LOCK_TIMEOUT = 5
"""Seconds."""
_TABLES = sa.text(
    """
    SELECT format('%I.%I', n.nspname, c.relname) AS name, c.oid::bigint AS id,
        (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) FROM pg_attribute a
         WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '')
            AS columns
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'r' AND n.nspname NOT IN ('information_schema', :copies)
        AND NOT starts_with(n.nspname, 'pg_')
        AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
                        AND d.objid = c.oid AND d.deptype = 'e')
    ORDER BY c.oid
    """
)
"""All tables, except those of extensions, with the columns that can be written."""
_SEQUENCES = sa.text(
    """
    SELECT format('%I.%I', schemaname, sequencename) AS name, start_value, last_value
    FROM pg_sequences
    """
)
_SET_SEQUENCE = sa.text("SELECT setval(CAST(:name AS regclass), :value, :is_called)")


class PostgresSnapshot:
    """The rows that the database at `url` had when this was created.

    Their copies are in a schema of the database itself. One connection stays open until `close`,
    because to connect takes longer than to restore. The constructor raises StorageUnavailable.
    """

    def __init__(self, url: str) -> None:
        self._engine = sa.create_engine(parse_url(url), pool_size=1, hide_parameters=True)
        self._copies: dict[int, str] = {}
        with translate_driver_errors(), self._engine.begin() as connection:
            connection.execute(sa.schema.CreateSchema(_COPIES))
            for table in _tables(connection):
                copy = f"{_COPIES}.t{table.id}"
                copied = connection.exec_driver_sql(f"CREATE TABLE {copy} AS TABLE {table.name}")
                if copied.rowcount:
                    self._copies[table.id] = copy
            self._values = {row.name: row.last_value for row in connection.execute(_SEQUENCES)}

    def close(self) -> None:
        """Closes the connection. The copies are dropped with the database."""
        self._engine.dispose()

    def restore(self) -> None:
        """Replaces the rows of all tables by those of the snapshot, and resets all sequences.

        An application may have the database open. Tables that were created later are emptied.
        Raises StorageUnavailable after five seconds of waiting for a transaction of a test.
        """
        with translate_driver_errors(), self._engine.begin() as connection:
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}s'")
            tables = _tables(connection)
            # One statement for all: PostgreSQL checks foreign keys at its end, so that the order of
            # the tables does not matter.
            _execute_together(connection, [f"DELETE FROM ONLY {table.name}" for table in tables])  # noqa: S608  # quoted by the server
            _execute_together(
                connection,
                [
                    f"INSERT INTO {table.name} ({table.columns}) OVERRIDING SYSTEM VALUE"  # noqa: S608  # quoted by the server
                    f" SELECT {table.columns} FROM {self._copies[table.id]}"
                    for table in tables
                    if table.id in self._copies
                ],
            )
            for row in connection.execute(_SEQUENCES).all():
                value = self._values.get(row.name)
                if row.last_value != value:
                    start = row.start_value if value is None else value
                    connection.execute(
                        _SET_SEQUENCE,
                        {"name": row.name, "value": start, "is_called": value is not None},
                    )


def create_database(server: str, name: str) -> str:
    """Creates an empty database on the server of the URL `server`, and returns its URL.

    Raises the errors of `migrations.connect`, such as ConfigurationError if the role may not create
    databases.
    """
    with migrations.connect(server, check_pooler=False) as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT")
        connection.exec_driver_sql(f"CREATE DATABASE {_quoted(connection, name)} ENCODING 'UTF8'")
    url: URL = parse_url(server).set(database=name)
    return url.render_as_string(hide_password=False)


def drop_database(server: str, name: str) -> None:
    """Drops the database, and ends its connections. Raises the errors of `migrations.connect`."""
    with migrations.connect(server, check_pooler=False) as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT")
        quoted = _quoted(connection, name)
        connection.exec_driver_sql(f"DROP DATABASE IF EXISTS {quoted} WITH (FORCE)")


def _tables(connection: Connection) -> list[Row[tuple[str, int, str]]]:
    found = connection.execute(_TABLES, {"copies": _COPIES}).all()
    return [row for row in found if row.columns is not None]


def _execute_together(connection: Connection, statements: list[str]) -> None:
    if statements:
        parts = ", ".join(f"s{number} AS ({text})" for number, text in enumerate(statements))
        connection.exec_driver_sql(f"WITH {parts} SELECT")


def _quoted(connection: Connection, name: str) -> str:
    return connection.dialect.identifier_preparer.quote_identifier(name)
