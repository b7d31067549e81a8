"""Indexes on tables with rows, which migrations build beside a service."""

import threading
import time
from collections.abc import Callable
from functools import partial

import psycopg
import pytest
import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.operations import Operations

from authapi.errors import ConfigurationError, StorageUnavailable
from authapi.storage import migrations
from authapi.storage.names import DEFAULT_NAMES
from authapi.storage.schema import indexes, lock_retries
from tests.storage.rows import sql

INDEX = "ix_authapi_users_webauthn_handle"
IS_VALID = f"SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('{INDEX}')"
ADD_USER = (
    "INSERT INTO authapi_users (id, email, email_given, is_active, is_superuser, created_at,"
    " updated_at) VALUES (gen_random_uuid(), '{0}@example.com', '', true, false, now(), now())"
)


@pytest.fixture
def old_url(fresh_postgres_url: str) -> str:
    """A database with accounts whose next migration builds an index on them."""
    migrations.downgrade(fresh_postgres_url, "0003")
    sql(fresh_postgres_url, *(ADD_USER.format(name) for name in ("ann", "bob")))
    return fresh_postgres_url


def eventually(condition: Callable[[], bool]) -> None:
    ends_at = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < ends_at
        time.sleep(0.02)


def test_accounts_change_while_an_index_on_them_is_built(old_url: str) -> None:
    migration = threading.Thread(target=migrations.upgrade, args=(old_url, "0004"), daemon=True)
    with (
        psycopg.connect(old_url) as reading,
        psycopg.connect(old_url, autocommit=True) as service,
    ):
        reading.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        reading.execute("SELECT count(*) FROM authapi_events")  # the build waits for its end
        migration.start()
        eventually(lambda: service.execute(IS_VALID).fetchall() == [(False,)])
        service.execute("SET lock_timeout = '5s'")
        service.execute(ADD_USER.format("eve"))
        assert migration.is_alive()
        reading.rollback()
        migration.join(60)
    assert not migration.is_alive()
    assert sql(old_url, IS_VALID) == [(True,)]
    migrations.upgrade(old_url)
    migrations.check(old_url)


def test_an_index_of_an_interrupted_build_is_built_again(old_url: str) -> None:
    # As a killed migration leaves it: the column is committed, the index invalid.
    sql(old_url, "ALTER TABLE authapi_users ADD COLUMN webauthn_handle BYTEA")
    sql(old_url, "UPDATE authapi_users SET webauthn_handle = 'same'")
    build = f"CREATE UNIQUE INDEX CONCURRENTLY {INDEX} ON authapi_users (webauthn_handle)"
    with psycopg.connect(old_url, autocommit=True) as connection:
        with pytest.raises(psycopg.errors.UniqueViolation):
            connection.execute(build)
        assert connection.execute(IS_VALID).fetchall() == [(False,)]
    with pytest.raises(ConfigurationError, match="webauthn_handle") as caught:
        migrations.upgrade(old_url)
    assert "\n" not in str(caught.value)
    assert migrations.current(old_url) == "0003"
    sql(old_url, "UPDATE authapi_users SET webauthn_handle = NULL")
    migrations.upgrade(old_url)
    assert sql(old_url, IS_VALID) == [(True,)]
    migrations.check(old_url)


def test_a_complete_index_is_kept(old_url: str) -> None:
    # As a migration leaves it that is killed between the build and its last commit.
    sql(
        old_url,
        "ALTER TABLE authapi_users ADD COLUMN webauthn_handle BYTEA",
        f"CREATE UNIQUE INDEX {INDEX} ON authapi_users (webauthn_handle)",
    )
    before = sql(old_url, f"SELECT to_regclass('{INDEX}')::oid")
    migrations.upgrade(old_url)
    assert sql(old_url, f"SELECT to_regclass('{INDEX}')::oid") == before
    migrations.check(old_url)


def test_a_dump_that_outlasts_a_build_is_reported(
    old_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexes, "_PATIENCE", 1)
    monkeypatch.setattr(lock_retries, "_PATIENCE", 0.5)
    with psycopg.connect(old_url) as reading:
        reading.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        reading.execute("SELECT count(*) FROM authapi_events")
        with pytest.raises(StorageUnavailable, match="such as a dump"):
            migrations.upgrade(old_url)
    assert sql(old_url, IS_VALID) == [(False,)]
    assert migrations.current(old_url) == "0003"
    migrations.upgrade(old_url)
    migrations.check(old_url)


def test_a_build_does_not_wait_for_migrations_that_wait_for_it(old_url: str) -> None:
    turn = partial(lock_retries.only_migration, partial(migrations.connect, old_url))
    has_waited = threading.Event()

    def wait_for_turn() -> None:
        with turn():
            has_waited.set()

    waiting = threading.Thread(target=wait_for_turn, daemon=True)
    with turn(), psycopg.connect(old_url, autocommit=True) as building:
        waiting.start()
        asked = (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND pid != pg_backend_pid() AND query LIKE 'SELECT pg_%advisory_lock%'"
        )
        eventually(lambda: building.execute(asked).fetchall() == [(2,)])
        building.execute("SET lock_timeout = '10s'")
        building.execute("CREATE INDEX CONCURRENTLY ix_theirs ON authapi_users (name)")
        assert not has_waited.is_set()
    waiting.join(30)
    assert has_waited.is_set()


def test_a_migration_that_runs_for_long_is_reported(
    old_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    turn = partial(lock_retries.only_migration, partial(migrations.connect, old_url))
    monkeypatch.setattr(lock_retries, "_TURN_TIMEOUT", 0.3)
    with turn(), pytest.raises(StorageUnavailable, match="another migration"):
        migrations.upgrade(old_url)
    migrations.upgrade(old_url)


def test_steps_before_a_failed_one_stay(old_url: str) -> None:
    sql(old_url, "CREATE TABLE authapi_last_deliveries (id INTEGER)")
    with pytest.raises(ConfigurationError, match="already exists"):
        migrations.upgrade(old_url)
    assert migrations.current(old_url) == "0004"


def test_an_index_with_a_condition_is_the_same_on_both_databases(empty_url: str) -> None:
    migrations.upgrade(empty_url, "0001")
    with migrations.connect(empty_url, writes=True) as connection:
        options = {"table_names": DEFAULT_NAMES, "is_atomic": False}
        context = MigrationContext.configure(connection, opts=options)
        with Operations.context(context), context.begin_transaction():
            indexes.build_index("ix_some", "authapi_users", ["name"], where="name IS NOT NULL")
        connection.commit()
        found = sa.inspect(connection).get_indexes("authapi_users")
    options_of = {index["name"]: index.get("dialect_options", {}) for index in found}
    dialect = "sqlite" if empty_url.startswith("sqlite") else "postgresql"
    assert "name IS NOT NULL" in str(options_of["ix_some"][f"{dialect}_where"])
