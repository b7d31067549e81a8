"""/health: liveness and readiness."""

from authapi import create_app
from authapi.testing import Client, client
from tests.conftest import SettingsFactory
from tests.servers.postgres import PostgresServer
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
