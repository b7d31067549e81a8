"""Migrations: one chain for both databases, and the tables that it creates."""

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.script import ScriptDirectory

from authapi import Settings, create_app
from authapi.errors import ConfigurationError, StorageUnavailable
from authapi.storage import Database, migrations
from authapi.storage.schema import revisions
from authapi.testing import client
from tests.servers.process import ServeProcess
from tests.storage.rows import SECRET, a_session, a_user, sql, store_user, sync_url, tables
from tests.tables import PREFIX, metadata

CONSTRAINTS = {
    "users": {"pk_", "uq_email", "ix_created_at_id", "ix_username", "ix_webauthn_handle"},
    "usernames": {"pk_", "ix_expires_at"},
    "events": {"pk_", "ix_user_id_id", "ix_user_id_type_network_id"},
    "sessions": {
        *("pk_", "uq_secret_hash", "fk_user_id"),
        *("ix_user_id", "ix_expires_at", "ix_previous_secret_hash", "ix_identity_id"),
    },
    "identities": {"pk_", "uq_issuer_subject", "fk_user_id", "ix_user_id"},
    "refresh_families": {"pk_", "uq_family_hash", "fk_session_id"},
    "signing_keys": {"pk_"},
    "email_tokens": {
        *("pk_", "uq_secret_hash", "fk_user_id"),
        *("ix_user_id", "ix_email", "ix_expires_at"),
    },
    "login_tickets": {
        *("pk_", "uq_secret_hash", "fk_user_id"),
        *("ix_user_id", "ix_browser_hash", "ix_expires_at"),
    },
    "totp_factors": {"pk_", "fk_user_id", "ix_user_id", "ix_expires_at", "ix_confirmed"},
    "recovery_codes": {"pk_", "fk_user_id"},
    "passkeys": {"pk_", "uq_credential_hash", "fk_user_id", "ix_user_id"},
    "used_challenges": {"pk_", "ix_expires_at"},
    "last_deliveries": {"pk_"},
    "outbox": {"pk_", "fk_user_id", "ix_user_id", "ix_kind_failed_at_receiver_due_at_id"},
}
"""Named by the convention, so that a migration can drop them by name on both databases. Here they
are without the name of the table."""


def names_of_constraints(url: str) -> dict[str, set[str]]:
    engine = sa.create_engine(sync_url(url), poolclass=sa.NullPool)
    inspector = sa.inspect(engine)
    found = {}
    for table in metadata.tables:
        named = [
            inspector.get_pk_constraint(table),
            *inspector.get_foreign_keys(table),
            *inspector.get_unique_constraints(table),
            *inspector.get_indexes(table),
            *inspector.get_check_constraints(table),
        ]
        found[table.removeprefix(PREFIX)] = {
            (item["name"] or "").replace(f"_{table}", "", 1).ljust(3, "_") for item in named
        }
    engine.dispose()
    return found


async def test_upgrade_downgrade_upgrade_with_rows(empty_url: str) -> None:
    assert migrations.current(empty_url) is None
    for _ in range(2):
        migrations.upgrade(empty_url)
        assert migrations.current(empty_url) == migrations.head()
        database = Database(empty_url)
        user = await store_user(database, a_user())
        async with database.transaction() as store:
            await store.sessions.add(a_session(user), SECRET)
        await database.close()
        assert sql(empty_url, "SELECT count(*) FROM authapi_sessions") == [(1,)]
        migrations.downgrade(empty_url, "base")
        assert migrations.current(empty_url) is None
        assert tables(empty_url) == {}


async def test_last_revision_can_be_downgraded_and_upgraded_again(empty_url: str) -> None:
    migrations.upgrade(empty_url)
    database = Database(empty_url)
    await store_user(database, a_user())
    await database.close()
    before = tables(empty_url)
    migrations.downgrade(empty_url, "-1")
    migrations.upgrade(empty_url, "+1")
    assert tables(empty_url) == before
    migrations.check(empty_url)


def test_second_upgrade_changes_nothing(database_url: str) -> None:
    before = tables(database_url)
    migrations.upgrade(database_url)
    assert tables(database_url) == before


def test_a_current_schema_is_not_migrated(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each start on SQLite upgrades: Alembic would read all migrations for nothing.
    monkeypatch.setattr(migrations, "_run", None)
    migrations.upgrade(database_url)


def test_migrations_create_exactly_the_tables_of_the_models(empty_url: str) -> None:
    migrations.upgrade(empty_url)
    migrated = tables(empty_url)
    migrations.downgrade(empty_url, "base")
    engine = sa.create_engine(sync_url(empty_url), poolclass=sa.NullPool)
    metadata.create_all(engine)
    engine.dispose()
    assert migrated == tables(empty_url)
    assert migrated.keys() == {
        *("authapi_users", "authapi_usernames", "authapi_sessions", "authapi_events"),
        *("authapi_signing_keys", "authapi_refresh_families", "authapi_email_tokens"),
        *("authapi_outbox", "authapi_login_tickets", "authapi_totp_factors"),
        *("authapi_recovery_codes", "authapi_passkeys", "authapi_used_challenges"),
        *("authapi_last_deliveries", "authapi_identities"),
    }


def test_constraints_are_named_by_the_convention(database_url: str) -> None:
    found = names_of_constraints(database_url)
    # PostgreSQL also lists the index of a unique constraint.
    assert found == CONSTRAINTS


def test_postgresql_column_types_match_the_models(postgres_url: str) -> None:
    columns = {
        (table, name): (kind, length, nullable)
        for table, name, kind, length, nullable in sql(
            postgres_url,
            "SELECT table_name, column_name, data_type, character_maximum_length, is_nullable"
            " FROM information_schema.columns WHERE table_schema = 'public'",
        )
    }
    assert columns["authapi_users", "id"] == ("uuid", None, "NO")
    assert columns["authapi_users", "email"] == ("character varying", 254, "NO")
    assert columns["authapi_users", "password_hash"] == ("character varying", 255, "YES")
    assert columns["authapi_sessions", "secret_hash"] == ("bytea", None, "YES")
    assert columns["authapi_sessions", "data"] == ("json", None, "NO")
    assert columns["authapi_signing_keys", "private_key"] == ("bytea", None, "YES")
    assert columns["authapi_refresh_families", "current_hash"] == ("bytea", None, "NO")
    ends = ("_at", "_time", "_until")
    times = [kind for (_, name), (kind, *_) in columns.items() if name.endswith(ends)]
    assert times == ["timestamp with time zone"] * 36


def test_check_passes_for_a_migrated_database(database_url: str) -> None:
    migrations.check(database_url)


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE authapi_users ADD COLUMN shoe_size INTEGER",
        "ALTER TABLE authapi_users DROP COLUMN name",
        "DROP INDEX ix_authapi_sessions_expires_at",
    ],
)
def test_check_reports_differences(database_url: str, change: str) -> None:
    sql(database_url, change)
    with pytest.raises(ConfigurationError, match="differs") as caught:
        migrations.check(database_url)
    assert any(
        word in str(caught.value) for word in ("shoe", "name", "ix_authapi_sessions_expires_at")
    )


def test_old_schema_is_reported_with_the_command_to_run(database_url: str) -> None:
    migrations.downgrade(database_url, "base")
    for refuse in (migrations.require_current, migrations.check):
        with pytest.raises(ConfigurationError, match="`authapi db upgrade`") as caught:
            refuse(database_url)
        assert "is at nothing" in str(caught.value)
        assert migrations.head() in str(caught.value)


def test_newer_schema_is_rejected(database_url: str) -> None:
    sql(database_url, "UPDATE authapi_version SET version_num = 'f00d'")
    with pytest.raises(ConfigurationError, match="is at f00d"):
        migrations.require_current(database_url)
    with pytest.raises(ConfigurationError, match="f00d"):
        migrations.upgrade(database_url)


def test_several_revisions_are_rejected(database_url: str) -> None:
    sql(database_url, "INSERT INTO authapi_version (version_num) VALUES ('0001')")
    with pytest.raises(ConfigurationError, match="authapi_version has several revisions"):
        migrations.require_current(database_url)


def test_head_is_the_one_of_alembic() -> None:
    scripts = ScriptDirectory.from_config(migrations._config())
    assert migrations.head() == scripts.get_current_head()


@pytest.mark.parametrize(
    ("earlier", "message"),
    [
        ({}, "it has no migrations"),
        ({"b": "a", "c": "a"}, "its migrations are not one chain"),
    ],
)
def test_damaged_migrations_are_reported(
    earlier: dict[str, str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "versions").mkdir()
    for revision, before in earlier.items():
        text = f'revision = "{revision}"\ndown_revision: str | None = "{before}"\n'
        (tmp_path / "versions" / f"{revision}.py").write_text(text)
    monkeypatch.setattr(revisions, "folder", lambda: tmp_path)
    with pytest.raises(ConfigurationError, match=message):
        revisions.head.__wrapped__()


def test_the_check_of_a_schema_imports_no_alembic(database_url: str) -> None:
    program = (
        "import sys; from authapi.storage import migrations\n"
        "migrations.require_current(sys.argv[1]); migrations.upgrade(sys.argv[1])\n"
        "print({'alembic', 'mako'} & {name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, database_url], capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"


def test_unknown_revision_is_rejected(database_url: str) -> None:
    with pytest.raises(ConfigurationError, match="nowhere"):
        migrations.upgrade(database_url, "nowhere")
    with pytest.raises(ConfigurationError, match="nowhere"):
        migrations.downgrade(database_url, "nowhere")


async def test_app_does_not_migrate_an_old_postgresql_schema(postgres_url: str) -> None:
    migrations.downgrade(postgres_url, "base")
    app = create_app(Settings(database_url=postgres_url))  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="`authapi db upgrade`"):
        async with client(app):
            pass
    assert tables(postgres_url) == {}


async def test_app_migrates_sqlite_at_the_start(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'new.db'}"
    async with client(create_app(Settings(database_url=url))) as api:  # type: ignore[arg-type]
        await api.create_user()
    migrations.check(url)


def test_failed_migration_is_rolled_back(empty_url: str) -> None:
    # The name of an index of the last table. Names of tables are checked before.
    index = "ix_authapi_sessions_user_id"
    sql(empty_url, "CREATE TABLE theirs (id INTEGER)", f"CREATE INDEX {index} ON theirs (id)")
    with pytest.raises(ConfigurationError, match="already exists"):
        migrations.upgrade(empty_url)
    assert list(tables(empty_url)) == ["theirs"]
    assert migrations.current(empty_url) is None


def test_concurrent_migrations_are_serialized(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'new.db'}"
    code = f"from authapi.storage import migrations; migrations.upgrade({url!r})"
    with ExitStack() as stack:
        command = [sys.executable, "-c", code]
        started = [
            stack.enter_context(ServeProcess(command, os.environ, tmp_path)) for _ in range(4)
        ]
        assert [(process.wait(60), process.output()) for process in started] == [(0, "")] * 4
    migrations.check(url)


def test_role_without_privileges_is_reported_in_one_line(postgres_url: str, worker: str) -> None:
    role = f"unprivileged_{worker}"
    migrations.downgrade(postgres_url, "base")
    sql(postgres_url, f"CREATE ROLE {role} LOGIN PASSWORD 'canary'")
    try:
        url = sa.make_url(postgres_url).set(username=role, password="canary")
        with pytest.raises(ConfigurationError, match="permission denied") as caught:
            migrations.upgrade(url.render_as_string(hide_password=False))
        assert "\n" not in str(caught.value)
        wrong = url.set(password="wrong-canary").render_as_string(hide_password=False)
        with pytest.raises(StorageUnavailable, match="password authentication failed") as refused:
            migrations.upgrade(wrong)
        assert "canary" not in str(refused.value)
        assert "\n" not in str(refused.value)
    finally:
        sql(postgres_url, f"DROP ROLE {role}")


def test_new_sqlite_file_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    folder = tmp_path / "open"
    folder.mkdir(mode=0o755)
    url = f"sqlite:///{folder / 'authapi.db'}"
    migrations.upgrade(url)
    keeping_the_journals = sa.create_engine(url, poolclass=sa.NullPool).connect()
    keeping_the_journals.exec_driver_sql("PRAGMA journal_mode=WAL")
    keeping_the_journals.exec_driver_sql("UPDATE authapi_users SET name = 'x'")
    keeping_the_journals.commit()
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    keeping_the_journals.close()
    assert modes == dict.fromkeys(("authapi.db", "authapi.db-wal", "authapi.db-shm"), 0o600)


def test_existing_sqlite_file_keeps_its_mode(sqlite_url: str) -> None:
    path = Path(sa.make_url(sqlite_url).database or "")
    path.chmod(0o640)
    migrations.upgrade(sqlite_url)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_invalid_file_is_reported_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "text.db").write_text("no database at all, but long enough to be looked at " * 9)
    for path, words in {
        tmp_path / "file" / "x.db": "cannot open the database file",
        tmp_path / "missing" / "x.db": "cannot open the database file",
        tmp_path: "cannot open the database file",
        tmp_path / "text.db": "is not a SQLite database",
    }.items():
        with pytest.raises(ConfigurationError, match=words) as caught:
            migrations.upgrade(f"sqlite:///{path}")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "operation", [migrations.upgrade, migrations.require_current], ids=["upgrade", "require"]
)
def test_unreachable_server_is_reported_in_one_line(
    operation: Callable[[str], None], free_address: str
) -> None:
    with pytest.raises(StorageUnavailable, match="refused") as caught:
        operation(f"postgresql://user:canary@{free_address}/authapi")
    assert "canary" not in str(caught.value)
    assert "\n" not in str(caught.value)
