"""Operations on a PostgreSQL database in use: requests are answered with 503 and logged."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator

import psycopg
import pytest
import sqlalchemy as sa

from authapi.cli.doctor import examine
from authapi.testing import Client
from tests.storage.roles import cut_off, restricted
from tests.storage.rows import sql
from tests.storage.serving import refused, serving
from tests.storage.test_driver_errors import break_commit


@pytest.fixture
def role(worker: str) -> str:
    return f"operated_{worker}"


@pytest.fixture
def role_url(fresh_postgres_url: str, role: str) -> Iterator[str]:
    with restricted(fresh_postgres_url, role) as url:
        yield url


@pytest.fixture
async def api(role_url: str) -> AsyncIterator[Client]:
    async with serving(role_url, database_pool_size=2) as found:
        yield found


@pytest.mark.parametrize(
    ("statement", "words", "mended"),
    [
        (
            "ALTER TABLE authapi_users RENAME TO gone",
            'relation "authapi_users" does not exist',
            "ALTER TABLE gone RENAME TO authapi_users",
        ),
        (
            "ALTER TABLE authapi_events RENAME TO gone",
            'relation "authapi_events" does not exist',
            "ALTER TABLE gone RENAME TO authapi_events",
        ),
        (
            "ALTER TABLE authapi_users RENAME COLUMN roles TO gone",
            "roles does not exist",
            "ALTER TABLE authapi_users RENAME COLUMN gone TO roles",
        ),
        (
            "ALTER TABLE authapi_events ALTER COLUMN detail TYPE bytea USING 'x'",
            'column "detail" is of type bytea',
            "ALTER TABLE authapi_events ALTER COLUMN detail TYPE json USING '{}'",
        ),
        (
            "ALTER TABLE authapi_users ENABLE ROW LEVEL SECURITY",
            'row-level security policy for table "authapi_users"',
            "ALTER TABLE authapi_users DISABLE ROW LEVEL SECURITY",
        ),
        (
            "ALTER SCHEMA public RENAME TO gone",
            'relation "authapi_sessions" does not exist',
            "ALTER SCHEMA gone RENAME TO public",
        ),
        (
            "REVOKE USAGE ON SCHEMA public FROM PUBLIC",
            'relation "authapi_sessions" does not exist',
            "GRANT USAGE ON SCHEMA public TO PUBLIC",
        ),
        (
            "REVOKE EXECUTE ON FUNCTION pg_notify FROM PUBLIC",
            "permission denied for function pg_notify",
            "GRANT EXECUTE ON FUNCTION pg_notify TO PUBLIC",
        ),
    ],
)
async def test_changed_schema_is_503(
    api: Client,
    fresh_postgres_url: str,
    caplog: pytest.LogCaptureFixture,
    statement: str,
    words: str,
    mended: str,
) -> None:
    sql(fresh_postgres_url, statement)
    await refused(api, caplog, words)
    sql(fresh_postgres_url, mended)
    assert (await api.patch("/me", json={"name": "x"})).status_code == 200


async def test_changed_column_type_under_prepared_statements_is_recovered(
    api: Client, fresh_postgres_url: str
) -> None:
    for _ in range(8):  # psycopg prepares a statement after five executions
        assert (await api.patch("/me", json={"name": "x"})).status_code == 200
    sql(fresh_postgres_url, "ALTER TABLE authapi_users ALTER COLUMN name TYPE text")
    statuses = [(await api.patch("/me", json={"name": "x"})).status_code for _ in range(4)]
    assert set(statuses) <= {200, 503}
    assert statuses[-1] == 200


@pytest.mark.parametrize(
    "code",
    [
        *("53000", "53100", "53200", "53300", "53400", "57P01", "57P02", "57P03", "57P05"),
        *("58000", "58030", "XX000", "XX001", "XX002", "42501", "42P01", "42703", "3F000"),
        *("3D000", "28P01", "28000", "25006", "08006"),
    ],
)
async def test_sqlstate_of_unavailable_server_is_503(
    postgres_url: str, caplog: pytest.LogCaptureFixture, code: str
) -> None:
    async with serving(postgres_url) as api:
        break_commit(postgres_url, code)
        await refused(api, caplog, "the database is not available: no")
        assert f"'{code}'" in repr([it.__dict__.get("sqlstate") for it in caplog.records])


@pytest.mark.parametrize("code", ["40001", "40P01", "55P03", "57014"])
async def test_errors_from_load_are_not_logged_as_errors(
    postgres_url: str, caplog: pytest.LogCaptureFixture, code: str
) -> None:
    async with serving(postgres_url) as api:
        break_commit(postgres_url, code)
        caplog.clear()
        answer = await api.patch("/me", json={"name": "x"})
        assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
        assert [it for it in caplog.records if it.levelno >= logging.ERROR] == []
        assert "unavailable" in caplog.text


@pytest.mark.parametrize("code", ["22012", "23514", "42601", "22P02", "42P18"])
async def test_invalid_statement_is_500(
    postgres_url: str, caplog: pytest.LogCaptureFixture, code: str
) -> None:
    async with serving(postgres_url) as api:
        break_commit(postgres_url, code)
        assert (await api.patch("/me", json={"name": "x"})).status_code == 500


@pytest.mark.parametrize(
    ("change", "words", "mended"),
    [
        ("ALTER ROLE {role} PASSWORD 'other'", "password authentication failed", None),
        ("ALTER ROLE {role} NOLOGIN", "not permitted to log in", "ALTER ROLE {role} LOGIN"),
        (
            "ALTER ROLE {role} CONNECTION LIMIT 0",
            "too many connections",
            "ALTER ROLE {role} CONNECTION LIMIT -1",
        ),
        (
            "ALTER DATABASE {name} CONNECTION LIMIT 0",
            "too many connections",
            "ALTER DATABASE {name} CONNECTION LIMIT -1",
        ),
        (
            "ALTER DATABASE {name} ALLOW_CONNECTIONS false",
            "not currently accepting connections",
            "ALTER DATABASE {name} ALLOW_CONNECTIONS true",
        ),
        (
            "REVOKE CONNECT ON DATABASE {name} FROM PUBLIC",
            "permission denied for database",
            "GRANT CONNECT ON DATABASE {name} TO PUBLIC",
        ),
        (
            "ALTER DATABASE {name} RENAME TO {name}_gone",
            "does not exist",
            "ALTER DATABASE {name}_gone RENAME TO {name}",
        ),
    ],
)
async def test_refused_connections_are_503(
    api: Client,
    fresh_postgres_url: str,
    role: str,
    caplog: pytest.LogCaptureFixture,
    change: str,
    words: str,
    mended: str | None,
) -> None:
    url = sa.make_url(fresh_postgres_url)
    admin = url.set(database="postgres").render_as_string(hide_password=False)
    names = {"role": role, "name": url.database}
    if "RENAME" in change:
        await asyncio.to_thread(rename, admin, role, change.format(**names))
    else:
        sql(admin, change.format(**names), cut_off(role))
    await refused(api, caplog, words)
    assert (await api.get("/health/ready")).status_code == 503
    assert (await api.get("/health/live")).status_code == 200
    sql(admin, (mended or "ALTER ROLE {role} PASSWORD 'canary'").format(**names))
    assert (await api.patch("/me", json={"name": "x"})).status_code == 200


def rename(admin: str, role: str, statement: str) -> None:
    # The listener of the service reconnects in the meantime.
    for _ in range(100):
        try:
            with psycopg.connect(admin, autocommit=True) as connection:
                connection.execute(cut_off(role).encode())
                connection.execute(statement.encode())
        except psycopg.errors.ObjectInUse:
            continue
        return
    raise AssertionError(statement)


async def test_dropped_database_is_503(
    fresh_postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(fresh_postgres_url) as api:
        url = sa.make_url(fresh_postgres_url)
        admin = url.set(database="postgres").render_as_string(hide_password=False)
        sql(admin, f"DROP DATABASE {url.database} WITH (FORCE)")
        await refused(api, caplog, "does not exist")
        assert (await api.get("/health/ready")).status_code == 503


def test_doctor_reports_a_read_only_database(
    fresh_postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTHAPI_DATABASE_URL", fresh_postgres_url)
    name = sa.make_url(fresh_postgres_url).database
    sql(fresh_postgres_url, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    [finding] = [item for item in examine() if item.check == "database"]
    assert finding.verdict == "error"
    assert "read-only" in finding.message
