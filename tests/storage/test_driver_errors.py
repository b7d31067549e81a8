"""The database fails while requests are served: responses, and recovery afterwards."""

import asyncio
import sqlite3
from collections.abc import Sequence
from contextlib import closing

import anyio
import httpx
import pytest
import sqlalchemy as sa

from authapi import Settings, create_app
from authapi.storage import migrations
from authapi.testing import PASSWORD, Client, client
from tests.servers.postgres import PostgresCluster
from tests.storage.rows import sql

ALICE = {"email": "alice@example.com", "password": PASSWORD}

# A constraint that the database checks at COMMIT and that every write violates.
FAILING_COMMIT = {
    "sqlite": [
        "CREATE TABLE parents (id INTEGER PRIMARY KEY)",
        "CREATE TABLE orphans (id REFERENCES parents (id) DEFERRABLE INITIALLY DEFERRED)",
        *(
            f"CREATE TRIGGER fail_{table}_{event} AFTER {event} ON authapi_{table}"
            " BEGIN INSERT INTO orphans VALUES (1); END"
            for table in ("users", "sessions")
            for event in ("INSERT", "UPDATE", "DELETE")
        ),
    ],
    "postgresql": [
        """
        CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '%s'; END $$
        """,
        *(
            f"CREATE CONSTRAINT TRIGGER fail AFTER INSERT OR UPDATE OR DELETE ON authapi_{table}"
            " DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION fail()"
            for table in ("users", "sessions")
        ),
    ],
}
FIXED = {
    "sqlite": [
        f"DROP TRIGGER fail_{table}_{event}"
        for table in ("users", "sessions")
        for event in ("INSERT", "UPDATE", "DELETE")
    ],
    "postgresql": ["DROP FUNCTION fail CASCADE"],
}


def settings(url: str, **changes: object) -> Settings:
    return Settings(**{"database_url": url, **changes})  # type: ignore[arg-type]  # pydantic reads


def kind_of(url: str) -> str:
    return sa.make_url(url).get_backend_name()


def break_commit(url: str, code: str = "P0001") -> None:
    sql(url, *(text.replace("%s", code) for text in FAILING_COMMIT[kind_of(url)]))


def rows(url: str) -> list[Sequence[Sequence[object]]]:
    return [
        sql(url, "SELECT email, name, password_hash, is_active FROM authapi_users ORDER BY id"),
        sql(url, "SELECT id, secret_hash FROM authapi_sessions ORDER BY id"),
    ]


async def each_kind_of_change(api: Client) -> list[httpx.Response]:
    return [
        await api.post("/register", json=ALICE),
        *[
            await api.post("/login", json={**BOB, "strategy": strategy})
            for strategy in ("session", "token", "jwt")
        ],
        await api.patch("/me", json={"name": "Robert"}),
        await api.patch("/me/session", json={"theme": "dark"}),
        await api.post("/me/tokens", json={"name": "script"}),
        await api.post(
            "/me/password", json={"current_password": PASSWORD, "new_password": PASSWORD[::-1]}
        ),
        await api.delete("/me/sessions"),
        await api.delete("/me"),
        await api.post("/logout"),
    ]


BOB = {"email": "bob@example.com", "password": PASSWORD}


async def test_failed_commit_is_no_success(database_url: str) -> None:
    async with client(create_app(settings(database_url))) as api:
        await api.post("/register", json=BOB)
        await api.post("/login", json={**BOB, "strategy": "jwt"})  # to be ended with the others
        await api.post("/login", json=BOB)
        before = rows(database_url)
        break_commit(database_url)
        changes = await each_kind_of_change(api)
        told = {(answer.status_code, answer.json()["code"]) for answer in changes}
        # On SQLite, only a foreign key can fail at the commit: a deleted account counts as in use.
        in_use = {(409, "account_in_use")} if kind_of(database_url) == "sqlite" else set()
        assert told == {(500, "internal_error")} | in_use
        for answer in changes:
            assert not {"set-cookie", "clear-site-data"} & answer.headers.keys()
            assert "access_token" not in answer.text
        assert rows(database_url) == before
        # The failed transactions have also ended on their connections.
        sql(database_url, *FIXED[kind_of(database_url)])
        assert [answer.status_code for answer in await each_kind_of_change(api)] == [
            *(201, 200, 200, 200, 200, 200, 201, 204, 204, 204, 401)
        ]


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("40001", 503),  # serialization_failure
        ("40P01", 503),  # deadlock_detected
        ("57P01", 503),  # admin_shutdown
        ("53300", 503),  # too_many_connections
        ("23503", 500),  # foreign_key_violation: at COMMIT it does not mean a taken address
        ("23505", 500),
    ],
)
async def test_failed_commit_is_503_if_a_retry_can_succeed(
    postgres_url: str, code: str, status: int
) -> None:
    async with client(create_app(settings(postgres_url))) as api:
        break_commit(postgres_url, code)
        answer = await api.post("/register", json=ALICE)
        assert answer.status_code == status
        assert ("retry-after" in answer.headers) == (status == 503)
        assert rows(postgres_url) == [[], []]


async def test_service_recovers_after_the_database_is_killed() -> None:
    with PostgresCluster({"synchronous_commit": "on"}) as cluster:
        url = cluster.create_database("authapi")
        migrations.upgrade(url)
        async with client(create_app(settings(url, database_pool_size=3))) as api:
            user = await api.create_user()
            await api.login(user, strategy="jwt")
            login = {"email": user.email, "password": PASSWORD}
            assert (await api.get("/health/ready")).status_code == 200
            # Opens several connections of the pool, which are all closed by the kill.
            await asyncio.gather(*(api.get("/me") for _ in range(6)))

            cluster.kill()
            with anyio.fail_after(30):
                answers = [
                    await api.get("/health/ready"),
                    await api.get("/me"),
                    await api.post("/login", json=login),
                    await api.post("/register", json=ALICE),
                    await api.post("/logout"),
                ]
            for answer in answers:
                assert answer.status_code == 503
                assert answer.json()["code"] == "database_unavailable"
                assert int(answer.headers["retry-after"]) > 0
                assert "www-authenticate" not in answer.headers
            assert (await api.get("/health/live")).status_code == 200
            # Requests without a query are answered as usual.
            jwks = await api.get("/.well-known/jwks.json")
            assert jwks.status_code == 200
            bad = await api.get("/me", headers={"authorization": "Bearer aat_nonsense"})
            assert bad.status_code == 401

            cluster.start()
            assert (await api.get("/health/ready")).status_code == 200
            assert (await api.get("/me")).status_code == 200
            assert (await api.post("/login", json=login)).status_code == 200
            assert (await api.post("/logout")).status_code == 204


async def test_connections_closed_by_the_server_are_replaced(postgres_url: str) -> None:
    async with client(create_app(settings(postgres_url))) as api:
        await api.login(await api.create_user(), strategy="token")
        for _ in range(3):
            sql(
                postgres_url,
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()",
            )
            assert (await api.get("/me")).status_code == 200
            changed = await api.patch("/me", json={"name": "x"})
            assert changed.status_code == 200


async def test_exhausted_pool_is_503_in_time(database_url: str) -> None:
    chosen = settings(database_url, database_pool_size=1, database_pool_timeout=0.05)
    async with client(create_app(chosen)) as api:
        await api.login(await api.create_user())
        with anyio.fail_after(10):
            async with api.services.database.transaction():
                for path in ("/me", "/health/ready"):
                    answer = await api.get(path)
                    assert answer.status_code == 503
                    assert answer.headers["retry-after"] == "1"
                assert (await api.get("/health/live")).status_code == 200
        assert (await api.get("/me")).status_code == 200


async def test_long_write_of_another_process_to_sqlite_is_503(sqlite_url: str) -> None:
    async with client(create_app(settings(sqlite_url, database_timeout=0.05))) as api:
        assert (await api.get("/health/ready")).status_code == 200
        path = sa.make_url(sqlite_url).database or ""
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            assert (await api.post("/register", json=ALICE)).status_code == 503
            assert (await api.get("/health/ready")).status_code == 503
            other.execute("ROLLBACK")
            assert (await api.get("/health/ready")).status_code == 200
        assert (await api.post("/register", json=ALICE)).status_code == 201
