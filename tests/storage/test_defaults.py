"""Defaults of the database, the role and the environment do not affect the service."""

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress

import anyio
import pytest
import sqlalchemy as sa

from authapi import Settings, create_app
from authapi.domain.email_address import parse_email
from authapi.errors import ConfigurationError, LastSuperuser
from authapi.services.accounts.administration import AccountChanges
from authapi.storage import Database, migrations
from authapi.storage.imports.sources import _reader, fastapi_users
from authapi.storage.migrations import connect
from authapi.storage.notifications import PostgresNotifications
from authapi.storage.urls import parse_url
from authapi.testing import Client, client
from tests.storage.imports.test_sources import ROWS, TABLE
from tests.storage.pooling import pooling
from tests.storage.rows import sql

REQUIRED = {
    "default_transaction_isolation": "read committed",
    "transaction_isolation": "read committed",
    "client_encoding": "UTF8",
    "datestyle": "ISO, MDY",
    "timezone": "UTC",
    "standard_conforming_strings": "on",
    "row_security": "off",
    "idle_session_timeout": "0",
    "transaction_timeout": "0",
    "synchronous_commit": "on",
}
OTHERS = (
    *("default_transaction_isolation = 'serializable'", "client_encoding = 'EUC_KR'"),
    *("datestyle = 'German'", "timezone = 'Asia/Kolkata'", "standard_conforming_strings = off"),
    *("row_security = on", "idle_session_timeout = '1min'", "transaction_timeout = '1min'"),
    *("synchronous_commit = off", "default_transaction_deferrable = on"),
    *("bytea_output = 'escape'", "intervalstyle = 'iso_8601'", "extra_float_digits = -5"),
    *("statement_timeout = '1min'", "lock_timeout = '1min'"),
    *("idle_in_transaction_session_timeout = '1min'", "quote_all_identifiers = on"),
    *("array_nulls = off", "backslash_quote = off", "escape_string_warning = on"),
)
ENVIRONMENT = {
    "PGDATESTYLE": "German",
    "PGTZ": "Asia/Kolkata",
    "PGCLIENTENCODING": "LATIN1",
    "PGOPTIONS": "-c default_transaction_isolation=serializable -c synchronous_commit=off",
}


@pytest.fixture(params=["database", "role", "URL", "environment"])
def url_with_others(
    request: pytest.FixtureRequest,
    fresh_postgres_url: str,
    worker: str,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[str]:
    """A migrated database with another default for each required parameter."""
    url, role = sa.make_url(fresh_postgres_url), f"other_{worker}"
    match request.param:
        case "database":
            set_by_default(fresh_postgres_url, *OTHERS)
        case "role":
            sql(fresh_postgres_url, f"CREATE ROLE {role} SUPERUSER LOGIN PASSWORD 'canary'")
            sql(fresh_postgres_url, *(f"ALTER ROLE {role} SET {line}" for line in OTHERS))
            url = url.set(username=role, password="canary")
        case "URL":
            options = " ".join(
                f"-c {line.replace(' ', '').replace(chr(39), '')}" for line in OTHERS
            )
            url = url.update_query_dict({"options": options, "client_encoding": "latin1"})
        case "environment":
            for name, value in ENVIRONMENT.items():
                monkeypatch.setenv(name, value)
    yield url.render_as_string(hide_password=False)
    if request.param == "role":
        end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '%s'"
        sql(fresh_postgres_url, end % role, f"DROP OWNED BY {role}", f"DROP ROLE {role}")


def set_by_default(url: str, *lines: str) -> None:
    name = sa.make_url(url).database
    sql(url, *(f"ALTER DATABASE {name} SET {line}" for line in lines))


async def in_force(url: str) -> Mapping[str, dict[str, object]]:
    """Returns the parameters of each kind of connection."""
    names = list(REQUIRED)
    question = "SELECT " + ", ".join(f"current_setting('{name}')" for name in names)
    database = Database(url)
    found: dict[str, object] = {}
    async with database.read() as store:
        found["reading"] = (await store.connection.exec_driver_sql(question)).one()
    for way in ("writing", "writing again"):  # after the connection was used for reading
        async with database.transaction() as store:
            found[way] = (await store.connection.exec_driver_sql(question)).one()
    assert isinstance(database.notifications, PostgresNotifications)
    async with database.notifications.listen(operation_timeout=10) as listener:
        answer = await listener._connection.execute(question.encode())
        found["listening"] = await answer.fetchone()
    await database.close()

    def blocking() -> None:
        with connect(url) as connection:
            found["migrating"] = connection.exec_driver_sql(question).one()
        engine = _reader(parse_url(url))
        with engine.connect() as connection:
            found["importing"] = connection.exec_driver_sql(question).one()
        engine.dispose()

    await asyncio.to_thread(blocking)
    return {
        way: dict(zip(names, row, strict=True))  # type: ignore[call-overload]
        for way, row in found.items()
    }


async def test_connections_set_the_required_parameters(url_with_others: str) -> None:
    for way, found in (await in_force(url_with_others)).items():
        dates = str(found.pop("datestyle"))
        assert dates.startswith("ISO"), way
        assert found == {name: v for name, v in REQUIRED.items() if name != "datestyle"}, way


async def life_of_an_account(api: Client) -> None:
    user = await api.create_user(name="김 \\' \\\\ x")
    await api.login(user)
    found = (await api.get("/me")).json()
    assert found["name"] == user.name
    assert found["created_at"].endswith("Z")
    assert (await api.get("/me/sessions")).status_code == 200
    assert (await api.post("/me/tokens", json={"name": "x"})).status_code == 201
    assert (await api.patch("/me", json={"name": "é"})).status_code == 200
    assert (await api.post("/logout")).status_code == 204
    assert (await api.get("/me")).status_code == 401


async def test_service_runs_with_other_defaults(url_with_others: str) -> None:
    await asyncio.to_thread(migrations.downgrade, url_with_others, "base")
    await asyncio.to_thread(migrations.upgrade, url_with_others)
    await asyncio.to_thread(migrations.check, url_with_others)
    async with client(create_app(Settings(database_url=url_with_others))) as api:  # type: ignore[arg-type]
        await life_of_an_account(api)
        assert (await api.get("/health/ready")).status_code == 200


@pytest.mark.parametrize(
    ("chosen", "value"), [("off", "on"), ("local", "local"), ("remote_apply", "remote_apply")]
)
async def test_synchronous_commit_is_changed_only_if_off(
    fresh_postgres_url: str, chosen: str, value: str
) -> None:
    set_by_default(fresh_postgres_url, f"synchronous_commit = {chosen}")
    for way, found in (await in_force(fresh_postgres_url)).items():
        assert found["synchronous_commit"] == value, way


async def test_timeouts_are_set_by_the_service(fresh_postgres_url: str) -> None:
    set_by_default(
        fresh_postgres_url,
        "statement_timeout = 200",
        "lock_timeout = 100",
        "idle_in_transaction_session_timeout = 200",
        "idle_session_timeout = 200",
    )
    database = Database(fresh_postgres_url, timeout=7.5, pool_timeout=5)
    names = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
    async with database.read() as store:
        found = [await store.connection.scalar(sa.text(f"SHOW {name}")) for name in names]
    assert found == ["7500ms", "7500ms", "29500ms"]
    await database.close()

    def migrate() -> None:
        with connect(fresh_postgres_url) as connection:
            connection.exec_driver_sql("SELECT pg_sleep(0.3)")

    await asyncio.to_thread(migrate)


async def test_last_superuser_is_kept_under_any_default(fresh_postgres_url: str) -> None:
    set_by_default(fresh_postgres_url, "default_transaction_isolation = 'repeatable read'")
    async with client(create_app(Settings(database_url=fresh_postgres_url))) as api:  # type: ignore[arg-type]
        services = api.services

        async def demote(address: str) -> bool:
            user = await services.accounts.profiles.find_by_email(parse_email(address))
            with suppress(LastSuperuser):
                await services.accounts.administration.change(
                    user.id, AccountChanges(is_superuser=False)
                )
                return True
            return False

        for number in range(8):
            addresses = [f"{name}{number}@example.com" for name in "ab"]
            sql(fresh_postgres_url, "UPDATE authapi_users SET is_superuser = false")
            for address in addresses:
                await api.create_user(address, is_superuser=True)
            with anyio.fail_after(30):
                done = await asyncio.gather(*map(demote, addresses))
            assert sorted(done) == [False, True]
            left = sql(fresh_postgres_url, "SELECT count(*) FROM authapi_users WHERE is_superuser")
            assert left == [(1,)]


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
async def test_concurrent_changes_are_all_stored(fresh_postgres_url: str, level: str) -> None:
    set_by_default(fresh_postgres_url, f"default_transaction_isolation = '{level}'")
    async with client(create_app(Settings(database_url=fresh_postgres_url))) as api:  # type: ignore[arg-type]
        await api.login(await api.create_user())
        with anyio.fail_after(60):
            answers = await asyncio.gather(
                *(api.patch("/me", json={"name": str(number)}) for number in range(24))
            )
        assert Counter(answer.status_code for answer in answers) == {200: 24}


async def test_read_only_default_is_respected(fresh_postgres_url: str) -> None:
    # The choice of an operator, which a transaction must not override.
    async with client(create_app(Settings(database_url=fresh_postgres_url))) as api:  # type: ignore[arg-type]
        user = await api.create_user()
        await api.login(user)
        set_by_default(fresh_postgres_url, "default_transaction_read_only = on")
        await api.services.database.close()
        assert (await api.get("/me")).status_code == 200
        assert (await api.patch("/me", json={"name": "x"})).status_code == 503
        assert (await api.get("/health/ready")).status_code == 503
    with pytest.raises(ConfigurationError, match="read-only"):
        await asyncio.to_thread(migrations.require_writable, fresh_postgres_url)


# The start-up parameter `options` of the URL.


def with_options(url: str, *options: str) -> str:
    return sa.make_url(url).update_query_dict({"options": options}).render_as_string(False)


async def path_everywhere(url: str) -> set[object]:
    database = Database(url)
    async with database.read() as store:
        found = {await store.connection.scalar(sa.text("SELECT current_schema()"))}
    assert isinstance(database.notifications, PostgresNotifications)
    async with database.notifications.listen(operation_timeout=10) as listener:
        answer = await listener._connection.execute("SELECT current_schema()")
        found |= set(await answer.fetchone() or ())
    await database.close()

    def migrating() -> object:
        with connect(url) as connection:
            return connection.exec_driver_sql("SELECT current_schema()").scalar_one()

    return found | {await asyncio.to_thread(migrating)}


@pytest.mark.parametrize(
    ("schema", "options"),
    [
        ("auth", ["-csearch_path=auth"]),
        ("auth", ["-c search_path=auth"]),
        ("auth", ["--search-path=auth"]),
        ("auth", ["  -c\tsearch_path=auth  "]),
        ("auth", ["-c search_path=other,public -c search_path=auth,public"]),
        ("auth", ["-c search_path=auth", "-c work_mem=8MB"]),
        ("auth", ["-c work_mem=8MB", "-c search_path=auth"]),
        ("auth", ["-c search_path=auth\\"]),
        ("auth", ["-c timezone=Asia/Kolkata -c search_path=auth"]),
        ("my auth", ['-c search_path="my\\ auth"']),
        ("my auth", ['-c search_path="my\\ auth",\\ public']),
        ("it's", ['-c search_path="it\'s"']),
        ('a"b', ['-c search_path="a""b"']),
        ("a\\b", ['-c search_path="a\\\\b"']),
        ("김", ["-c search_path=김"]),
    ],
)
@pytest.mark.parametrize("through", ["directly", "pooler"])
async def test_options_of_the_url_apply_to_every_connection(
    emptied_postgres_url: str, schema: str, options: list[str], through: str
) -> None:
    quoted = schema.replace('"', '""')
    sql(emptied_postgres_url, f'CREATE SCHEMA "{quoted}"')
    try:
        if through == "directly":
            assert await path_everywhere(with_options(emptied_postgres_url, *options)) == {schema}
        else:
            async with pooling(emptied_postgres_url, mode="session") as pooler:
                url = with_options(pooler.url, *options)
                database = Database(url)
                async with database.read() as store:
                    found = await store.connection.scalar(sa.text("SELECT current_schema()"))
                    zone = await store.connection.scalar(sa.text("SHOW timezone"))
                await database.close()

                def migrating() -> object:
                    with connect(url) as connection:
                        return connection.exec_driver_sql("SELECT current_schema()").scalar_one()

                assert (found, zone) == (schema, "UTC")
                assert await asyncio.to_thread(migrating) == schema
    finally:
        sql(emptied_postgres_url, f'DROP SCHEMA "{quoted}"')


@pytest.mark.parametrize("from_environment", [False, True], ids=["URL", "PGOPTIONS"])
async def test_service_uses_the_schema_of_its_url(
    fresh_postgres_url: str, from_environment: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrations.downgrade(fresh_postgres_url, "base")
    sql(fresh_postgres_url, "DROP TABLE authapi_version", "CREATE SCHEMA auth")
    url = f"{fresh_postgres_url}?options=-csearch_path%3Dauth"
    if from_environment:
        url = fresh_postgres_url
        monkeypatch.setenv("PGOPTIONS", "-csearch_path=auth")
    await asyncio.to_thread(migrations.upgrade, url)
    await asyncio.to_thread(migrations.check, url)
    async with client(create_app(Settings(database_url=url))) as api:  # type: ignore[arg-type]
        await life_of_an_account(api)
    tables = sql(
        fresh_postgres_url,
        "SELECT DISTINCT table_schema FROM information_schema.tables WHERE table_name IN"
        " ('authapi_users', 'authapi_version', 'authapi_outbox')",
    )
    assert tables == [("auth",)]
    assert sql(fresh_postgres_url, "SELECT count(*) FROM auth.authapi_users") == [(1,)]


@pytest.mark.parametrize("from_environment", [False, True], ids=["URL", "PGOPTIONS"])
async def test_url_options_are_set_if_a_pooler_refuses_them(
    emptied_postgres_url: str, from_environment: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with pooling(emptied_postgres_url, mode="session", refuses_options=True) as pooler:
        url = pooler.url
        if from_environment:
            monkeypatch.setenv("PGOPTIONS", "-c search_path=pg_catalog")
        else:
            url = with_options(pooler.url, "-c search_path=pg_catalog")

        def migrating() -> object:
            with connect(url) as connection:
                return connection.exec_driver_sql("SHOW search_path").scalar_one()

        assert await asyncio.to_thread(migrating) == "pg_catalog"
        database = Database(url)
        async with database.read() as store:
            assert await store.connection.scalar(sa.text("SHOW search_path")) == "pg_catalog"
        await database.close()


async def test_invalid_options_are_reported_in_one_line(postgres_url: str) -> None:
    url = with_options(postgres_url, "-c no_such_parameter=1")
    with pytest.raises(Exception, match="no_such_parameter") as caught:
        await asyncio.to_thread(migrations.current, url)
    assert "\n" not in str(caught.value)


# Imports from the database of another application.


def test_import_fails_instead_of_skipping_rows_of_a_policy(
    fresh_postgres_url: str, worker: str
) -> None:
    role = f"importer_{worker}"
    sql(
        fresh_postgres_url,
        *(TABLE, ROWS),
        f"CREATE ROLE {role} LOGIN PASSWORD 'canary'",
        f'GRANT SELECT ON "user" TO {role}',
    )
    url = sa.make_url(fresh_postgres_url).set(username=role, password="canary")
    text = url.render_as_string(hide_password=False)
    try:
        assert len(list(fastapi_users(text))) == 2
        sql(fresh_postgres_url, 'ALTER TABLE "user" ENABLE ROW LEVEL SECURITY')
        with pytest.raises(ConfigurationError, match="cannot be read"):
            list(fastapi_users(text))
    finally:
        sql(fresh_postgres_url, f"DROP OWNED BY {role}", f"DROP ROLE {role}")
