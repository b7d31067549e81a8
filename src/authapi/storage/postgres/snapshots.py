"""Copies of the rows of a PostgreSQL database, to which a test database returns before each test.

Creating a database from a template takes more than twenty milliseconds, and a running application
would lose its connections. Deleting the rows of the few tables that a test has filled takes two. One
statement deletes the rows of all tables, and inserts the copied ones: PostgreSQL checks foreign
keys at its end, so the order of the tables does not matter.
"""

import sqlalchemy as sa

from authapi.storage.urls import parse_url

_COPIES = "authapi_test_rows"
"""The schema with the copied rows."""
_TABLES = (
    """
    SELECT format('%I.%I', n.nspname, c.relname) AS name, c.oid AS id,
        (SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute
         WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped AND attgenerated = '') AS columns
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'r' AND n.nspname NOT IN ('pg_catalog', 'information_schema', '%s')
        AND n.nspname NOT LIKE 'pg\\_%%'
    ORDER BY c.oid
"""
    % _COPIES
)  # the text is full of braces' and percents' other uses
_SEQUENCES = f"""
    SELECT format('%I.%I', schemaname, sequencename) AS name, start_value, last_value
    FROM pg_sequences WHERE schemaname <> '{_COPIES}'
"""  # noqa: S608  # a constant


class PostgresSnapshot:
    """The rows that the database at `url` had when this was created.

    `restore` brings them back, also while an application has the database open. Tables that are
    created later are emptied. It raises sqlalchemy.exc.OperationalError if a transaction of another
    connection holds a row for five seconds.
    """

    def __init__(self, url: str) -> None:
        self._engine = sa.create_engine(parse_url(url), isolation_level="AUTOCOMMIT")
        self._copied: dict[int, str] = {}
        with self._engine.connect() as connection:
            connection.exec_driver_sql(f"CREATE SCHEMA {_COPIES}")
            for table in self._filled(connection):
                copy = f"{_COPIES}.t{table.id}"
                connection.exec_driver_sql(f"CREATE TABLE {copy} AS TABLE {table.name}")  # quoted by the server
                self._copied[table.id] = copy
            self._sequences = {
                row.name: row.last_value for row in connection.execute(sa.text(_SEQUENCES))
            }

    def restore(self) -> None:
        """Replaces the rows of all tables by those of the snapshot, and resets all sequences."""
        with self._engine.connect() as connection:
            connection.exec_driver_sql("SET lock_timeout = '5s'")
            changed = self._filled(connection)
