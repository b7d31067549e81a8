"""/health: liveness and readiness."""

import pytest

from authapi import create_app
from authapi.storage import migrations
from authapi.storage.schema.revisions import number
from authapi.testing import Client, client
from tests.conftest import SettingsFactory
from tests.servers.postgres import PostgresServer
from tests.storage.rows import sql
from tests.web.responses import check_headers, problem


async def test_health_responses_contain_only_the_status(api_on_each: Client) -> None:
    for path in ("/health/live", "/health/ready"):
        response = await api_on_each.get(path)
        assert response.status_code == 200
        check_headers(response)
        assert response.content == b'{"status":"ok"}'


async def test_ready_reflects_the_state_of_the_database(
    make_settings: SettingsFactory, postgres: PostgresServer, fresh_postgres_url: str
) -> None:
    app = create_app(make_settings(database_url=fresh_postgres_url, database_pool_timeout=1))
    async with client(app) as api:
        assert (await api.get("/health/ready")).status_code == 200
        postgres.drop_database(fresh_postgres_url.rpartition("/")[2])
        for _ in range(2):
            problem(await api.get("/health/ready"), 503, "database_unavailable")
            assert (await api.get("/health/live")).status_code == 200
        body = {"email": "a@example.com", "password": "correct horse battery staple"}
        for path in ("/register", "/login"):
            problem(await api.post(path, json=body), 503, "database_unavailable")
        token = {"cookie": "authapi=" + "A" * 43}
        problem(await api.get("/me", headers=token), 503, "database_unavailable")


async def test_live_does_not_query_the_database(api: Client) -> None:
    await api.services.database.close()

    async def fail() -> None:
        raise AssertionError

    api.services.database.ping = fail  # type: ignore[method-assign]  # no query may be made
    assert (await api.get("/health/live")).status_code == 200


@pytest.mark.parametrize("database", ["sqlite_url", "fresh_postgres_url"])
async def test_ready_tells_that_the_schema_is_too_old(
    make_settings: SettingsFactory,
    database: str,
    request: pytest.FixtureRequest,
    caplog: pytest.LogCaptureFixture,
) -> None:
    database_url: str = request.getfixturevalue(database)
    async with client(create_app(make_settings(database_url=database_url))) as api:

        async def is_ready() -> bool:
            response = await api.get("/health/ready")
            if response.status_code == 503:
                problem(response, 503, "database_unavailable")
            return response.status_code == 200

        earlier = max(migrations.earlier())
        sql(database_url, f"UPDATE authapi_version SET version_num = '{earlier}'")
        assert not await is_ready()
        assert "run `authapi db upgrade`" in caplog.text
        # An upgrade begins while this release still runs.
        oldest = number(migrations.head())
        sql(database_url, f"UPDATE authapi_version SET version_num = '9999_beside_{oldest}'")
        assert await is_ready()
        for excluding in ("9999_beside_9998", "9999"):
            sql(database_url, f"UPDATE authapi_version SET version_num = '{excluding}'")
            assert not await is_ready()
            line = f"is at {excluding}, which code before {excluding[-4:]} cannot use"
            assert caplog.text.count(line) == 1
        sql(database_url, "DELETE FROM authapi_version")
        assert not await is_ready()
        sql(database_url, f"INSERT INTO authapi_version VALUES ('{migrations.head()}')")
        assert await is_ready()
        sql(database_url, "DROP TABLE authapi_version")
        assert not await is_ready()
