"""Commands as processes behind a real PgBouncer: rejected in one line, or working."""

import asyncio
import os
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import httpx
import psycopg
import pytest
import sqlalchemy as sa

from authapi.cli.doctor import examine
from authapi.errors import ConfigurationError
from authapi.storage import Database, migrations
from authapi.storage.imports.sources import fastapi_users
from authapi.testing import PASSWORD
from tests.servers.forked import Forking
from tests.servers.pgbouncer import PgBouncer, PoolMode
from tests.servers.postgres import PostgresServer
from tests.servers.process import ServeProcess, free_port
from tests.services.identity_cache.test_invalidation import (
    cached,
    eventually,
    identify,
    log_in,
    process,
    statements,
    wait_until_cached,
)
from tests.storage.rows import sql

pytestmark = pytest.mark.slow

LONGEST = 20.0
"""Seconds that a rejected command may take on a busy machine."""
OPTIONS = {"ignore_startup_parameters": "options"}
USERS = """CREATE TABLE "user" (id CHAR(36) PRIMARY KEY, email VARCHAR(320) NOT NULL,
hashed_password VARCHAR(1024) NOT NULL, is_active BOOLEAN NOT NULL, is_superuser BOOLEAN NOT NULL,
is_verified BOOLEAN NOT NULL)"""

COMMANDS: Sequence[Sequence[str]] = (
    ("db", "upgrade"),
    ("db", "downgrade", "0001", "--yes"),
    ("db", "current"),
    ("db", "check"),
    ("users", "list"),
    ("users", "deactivate", "a@example.com"),
    ("sessions", "prune"),
    ("events", "list"),
    ("keys", "list"),
    ("keys", "rotate"),
)

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(forking: Forking, tmp_path: Path) -> Run:
    """Runs `authapi` with a database. Returns its exit code and output."""

    def run_authapi(url: str, *arguments: str, **settings: str) -> tuple[int, str]:
        done = forking.run(arguments, environment(tmp_path, url, **settings), tmp_path)
        return done.returncode, done.stdout + done.stderr

    return run_authapi


def environment(folder: Path, url: str, **settings: str) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "AUTHAPI_DATA_DIR": str(folder / "data"),
        "AUTHAPI_DATABASE_URL": url,
        **settings,
    }


@pytest.fixture(params=["transaction", "statement"])
def shared(request: pytest.FixtureRequest, postgres_url: str) -> Iterator[str]:
    """The database through a PgBouncer that shares sessions."""
    with PgBouncer(postgres_url, request.param, **OPTIONS) as pooler:
        yield pooler.url(postgres_url)


def is_refusal(told: tuple[int, str]) -> bool:
    code, text = told
    return code == 1 and text.count("\n") == 1 and "pool_mode = session" in text


def advisory_locks(url: str) -> object:
    """Returns the number of advisory locks in this database, not in those of other tests."""
    held = (
        "SELECT count(*) FROM pg_locks JOIN pg_database ON database = pg_database.oid"
        " WHERE locktype = 'advisory' AND datname = current_database()"
    )
    return sql(url, held)[0][0]


def test_commands_reject_the_pooler_in_one_line(run: Run, shared: str, postgres_url: str) -> None:
    before = sql(postgres_url, "SELECT relname FROM pg_class ORDER BY oid")
    for command in COMMANDS:
        began = time.monotonic()
        told = run(shared, *command)
        assert is_refusal(told), (command, told)
        assert str(sa.make_url(shared).password) not in told[1]
        assert time.monotonic() - began < LONGEST
    assert advisory_locks(postgres_url) == 0
    assert sql(postgres_url, "SELECT relname FROM pg_class ORDER BY oid") == before
    # A direct migration does not wait for a lock that the pooler kept.
    began = time.monotonic()
    assert run(postgres_url, "db", "upgrade")[0] == 0
    assert time.monotonic() - began < LONGEST


def test_serve_rejects_the_pooler_in_one_line(
    forking: Forking, shared: str, tmp_path: Path
) -> None:
    for settings in ({}, {"AUTHAPI_MIGRATE": "true"}):
        arguments = ["serve", "--port", str(free_port())]
        with forking.start(arguments, environment(tmp_path, shared, **settings), tmp_path) as it:
            assert it.wait(LONGEST) == 1
            [line] = [line for line in it.output().splitlines() if line.startswith("authapi:")]
            assert "pool_mode = session" in line
            assert "Traceback" not in it.output()


def test_import_rejects_the_pooler(run: Run, shared: str, postgres_url: str) -> None:
    sql(postgres_url, USERS)
    own = postgres_url
    told = run(own, "users", "import", shared, "--from", "fastapi-users")
    assert is_refusal(told), told


def test_doctor_reports_the_pooler(shared: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTHAPI_DATABASE_URL", shared)
    [finding] = [item for item in examine() if item.check == "database"]
    assert finding.verdict == "error"
    assert "shares sessions between clients" in finding.message
    assert "connect to PostgreSQL directly" in finding.message
    code, text = run(shared, "doctor")
    assert (code, "shares sessions between clients" in text) == (1, True)


def test_alembic_command_rejects_the_pooler(shared: str, tmp_path: Path) -> None:
    project = Path(__file__).parents[2]
    for command in (["upgrade", "head"], ["current"]):
        arguments = [sys.executable, "-m", "alembic", "-c", str(project / "alembic.ini"), *command]
        with ServeProcess(arguments, environment(tmp_path, shared), tmp_path) as it:
            assert it.wait(LONGEST) != 0
            assert "shares sessions between clients" in it.output()


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {**OPTIONS, "default_pool_size": "1"},
        {**OPTIONS, "server_round_robin": "1"},
        {**OPTIONS, "default_pool_size": "2", "server_round_robin": "1"},
    ],
    ids=["options", "one session", "in turn", "two in turn"],
)
@pytest.mark.parametrize("mode", ["transaction", "statement"])
def test_pooler_is_rejected_with_any_other_setting(
    postgres_url: str, mode: PoolMode, settings: dict[str, str]
) -> None:
    with PgBouncer(postgres_url, mode, **settings) as pooler:
        refused_soon(migrations.current, pooler.url(postgres_url), "shares sessions")
        refused_soon(migrations.upgrade, over_socket(pooler, postgres_url), "shares sessions")


def refused_soon(operation: Callable[[str], object], url: str, words: str) -> None:
    began = time.monotonic()
    with pytest.raises(ConfigurationError, match=words) as caught:
        operation(url)
    assert time.monotonic() - began < LONGEST
    assert "\n" not in str(caught.value)
    assert "connect to PostgreSQL directly" in str(caught.value)


def over_socket(pooler: PgBouncer, url: str) -> str:
    reached = sa.make_url(url).set(host=None, port=None)
    query = {"host": str(pooler.folder), "port": str(pooler.port)}
    return reached.update_query_dict(query).render_as_string(hide_password=False)


def test_busy_pooler_that_shares_sessions_is_rejected(postgres_url: str) -> None:
    with PgBouncer(postgres_url, "transaction", **OPTIONS, default_pool_size="3") as pooler:
        url = pooler.url(postgres_url)

        async def work() -> None:
            database = Database(url, pool_size=6)
            busy = [asyncio.create_task(keep_reading(database)) for _ in range(6)]
            await asyncio.sleep(0)
            await asyncio.to_thread(refused_soon, migrations.upgrade, url, "shares sessions")
            for task in busy:
                task.cancel()
            await asyncio.gather(*busy, return_exceptions=True)
            await database.close()

        asyncio.run(work())
    assert advisory_locks(postgres_url) == 0


async def keep_reading(database: Database) -> None:
    while True:
        async with database.read() as store:
            await store.connection.scalar(sa.text("SELECT pg_sleep(0.002)"))


def test_pooler_with_one_session_is_rejected(postgres_url: str) -> None:
    with PgBouncer(postgres_url, "session", **OPTIONS, default_pool_size="1") as pooler:
        for operation in (migrations.current, migrations.upgrade):
            refused_soon(operation, pooler.url(postgres_url), "gives no further session")
    with PgBouncer(postgres_url, "session", **OPTIONS, max_client_conn="1") as pooler:
        refused_soon(migrations.current, pooler.url(postgres_url), "gives no further session")


@pytest.mark.parametrize("mode", ["session", "transaction"])
def test_pooler_without_a_free_session_is_rejected(postgres_url: str, mode: PoolMode) -> None:
    with PgBouncer(postgres_url, mode, **OPTIONS, default_pool_size="1") as pooler:
        url = pooler.url(postgres_url)
        with psycopg.connect(url) as other:
            other.execute("SELECT 1")  # in a transaction, so that it keeps its session
            refused_soon(migrations.current, url, "without a free session")
            refused_soon(lambda url: list(fastapi_users(url)), url, "without a free session")


# Session mode.


@pytest.fixture(params=[{}, OPTIONS], ids=["refuses options", "ignores options"])
def kept(request: pytest.FixtureRequest, postgres_url: str) -> Iterator[str]:
    """The database through a PgBouncer in session mode, as Debian configures it or not."""
    with PgBouncer(postgres_url, "session", **request.param, default_pool_size="40") as pooler:
        yield pooler.url(postgres_url)


def test_commands_work_in_session_mode(
    run: Run, kept: str, postgres: PostgresServer, worker: str
) -> None:
    name = f"empty_pooled_{worker}"
    direct = postgres.create_database(name)
    url = sa.make_url(kept).set(database=name).render_as_string(hide_password=False)
    try:
        for command in (
            *(("db", "upgrade"), ("db", "current"), ("db", "check"), ("users", "list")),
            *(
                ("keys", "list"),
                ("db", "downgrade", "0001", "--yes"),
                ("db", "upgrade"),
                ("doctor",),
            ),
        ):
            code, text = run(url, *command)
            assert code == 0, (command, text)
        assert advisory_locks(direct) == 0
        sql(direct, USERS)
        sql(direct, """INSERT INTO "user" VALUES ('1', 'x@example.com', 'x', true, false, true)""")
        code, text = run(url, "users", "import", url, "--from", "fastapi-users", "--dry-run")
        assert "line 1: password_hash" in text, text
    finally:
        postgres.drop_database(name)


def test_doctor_warns_about_a_pooler(kept: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTHAPI_DATABASE_URL", kept)
    findings = [item for item in examine() if item.check == "database"]
    assert [item.verdict for item in findings] == ["ok", "warning"]
    assert "connection pooler" in findings[1].message


def test_clients_read_their_own_rows_through_the_pooler(
    forking: Forking, kept: str, tmp_path: Path
) -> None:
    port = free_port()
    command = ["serve", "--port", str(port)]
    with forking.start(command, environment(tmp_path, kept), tmp_path) as server:
        at = f"http://127.0.0.1:{port}"
        server.wait_ready(f"{at}/health/ready", timeout=60)
        assert wrong_answers([at]) == 0
        assert server.terminate(30) == 0


def wrong_answers(services: Sequence[str], *, first: int = 0) -> int:
    """Returns how many answers of 480 to eight clients were not about the client itself."""

    async def client(number: int) -> int:
        account = {"email": f"{number}@example.com", "password": PASSWORD}
        at = services[number % len(services)]
        async with httpx.AsyncClient(base_url=at, trust_env=False, timeout=30) as http:
            assert (await http.post("/register", json=account)).status_code == 201
            login = await http.post("/login", json={**account, "strategy": "token"})
            http.headers["authorization"] = f"Bearer {login.json()['access_token']}"
            answers = [await http.get("/me") for _ in range(60)]
        return sum(answer.json().get("email") != account["email"] for answer in answers)

    async def load() -> list[int]:
        return await asyncio.gather(*(client(first + number) for number in range(8)))

    return sum(asyncio.run(load()))


async def test_the_identity_cache_is_used_in_session_mode(kept: str, postgres_url: str) -> None:
    async with process(kept) as here, process(postgres_url) as there:
        for _ in range(5):
            caller = await log_in(there)
            await wait_until_cached(here, caller)
            with statements(here) as found:
                assert cached(here, caller) is not None
            assert found == []
            await there.sessions.end(caller.session.id)
            await eventually(lambda caller=caller: cached(here, caller) is None, within=2)  # type: ignore[misc]
            assert here.invalidation.is_current()
            assert await identify(here, caller) is None


async def test_the_identity_cache_is_used_over_the_direct_url(
    pooler: PgBouncer, postgres_url: str
) -> None:
    declared = {"database_pooler": "transaction", "database_direct_url": postgres_url}
    async with (
        process(pooler.url(postgres_url), **declared) as here,
        process(postgres_url) as there,
    ):
        caller = await log_in(there)
        await wait_until_cached(here, caller)
        with statements(here) as found:
            assert cached(here, caller) is not None
        assert found == []
        await there.sessions.end(caller.session.id)
        await eventually(lambda: cached(here, caller) is None, within=2)


# Transaction mode, declared.

DECLARED = {"AUTHAPI_DATABASE_POOLER": "transaction"}
CLEAN = (
    "SELECT current_setting('statement_timeout'), current_setting('row_security'),"
    " (SELECT count(*) FROM pg_prepared_statements), (SELECT count(*) FROM pg_listening_channels())"
)
"""What a session has, that the service must not have left to another client."""


@pytest.fixture
def pooler(postgres_url: str) -> Iterator[PgBouncer]:
    """A PgBouncer in transaction mode, otherwise as Debian configures it."""
    with PgBouncer(postgres_url, "transaction", default_pool_size="3") as found:
        yield found


def test_commands_work_through_a_declared_pooler(
    run: Run, pooler: PgBouncer, postgres_url: str
) -> None:
    settings = {**DECLARED, "AUTHAPI_DATABASE_DIRECT_URL": postgres_url}
    url = pooler.url(postgres_url)
    for command in (
        *(("db", "downgrade", "0001", "--yes"), ("db", "upgrade"), ("db", "upgrade")),
        *(("db", "current"), ("db", "check"), ("users", "list"), ("keys", "list")),
    ):
        code, text = run(url, *command, **settings)
        assert code == 0, (command, text)
    code, text = run(url, "doctor", **settings)
    assert (code, "in transaction mode" in text) == (0, True)
    assert advisory_locks(postgres_url) == 0
    with psycopg.connect(url, autocommit=True, prepare_threshold=None) as other:
        assert other.execute(CLEAN).fetchone() == ("0", "on", 0, 0)


def test_services_behind_a_declared_pooler_answer_each_client_rightly(
    forking: Forking, pooler: PgBouncer, postgres_url: str, tmp_path: Path
) -> None:
    settings = {
        **DECLARED,
        "AUTHAPI_DATABASE_DIRECT_URL": postgres_url,
        "AUTHAPI_IDENTITY_CACHE_SIZE": "1",  # most requests ask the database
        "AUTHAPI_MIGRATE": "true",
    }
    chosen = environment(tmp_path, pooler.url(postgres_url), **settings)
    for start in range(2):  # nothing of the first start is in the way of the second
        ports = [free_port(), free_port()]
        with ExitStack() as running:
            servers = [
                running.enter_context(
                    forking.start(["serve", "--port", str(port)], chosen, tmp_path)
                )
                for port in ports
            ]
            at = [f"http://127.0.0.1:{port}" for port in ports]
            for server, place in zip(servers, at, strict=True):
                server.wait_ready(f"{place}/health/ready", timeout=60)
            assert wrong_answers(at, first=8 * start) == 0
            for server in servers:
                assert server.terminate(30) == 0
        assert advisory_locks(postgres_url) == 0
    with psycopg.connect(chosen["AUTHAPI_DATABASE_URL"], autocommit=True) as other:
        assert other.execute(CLEAN, prepare=False).fetchone() == ("0", "on", 0, 0)


def test_the_direct_url_is_checked_too(run: Run, pooler: PgBouncer, postgres_url: str) -> None:
    url = pooler.url(postgres_url)
    assert is_refusal(run(url, "users", "list", AUTHAPI_DATABASE_DIRECT_URL=url, **DECLARED))
    # A pooler that is not declared is found, although the migrations do not pass it.
    told = run(url, "users", "list", AUTHAPI_DATABASE_DIRECT_URL=postgres_url)
    assert is_refusal(told)
    assert "AUTHAPI_DATABASE_POOLER=transaction" in told[1]
    code, text = run(url, "doctor", AUTHAPI_DATABASE_DIRECT_URL=postgres_url)
    assert (code, "shares sessions between clients" in text) == (1, True)
    code, text = run(url, "users", "list", **DECLARED)
    assert (code, text.count("\n")) == (1, 1)
    assert "needs AUTHAPI_DATABASE_DIRECT_URL" in text


# After a failover: there was no check at the start.


@pytest.mark.parametrize("sessions", ["1", "3"])
def test_no_client_runs_a_statement_of_another_client(postgres_url: str, sessions: str) -> None:
    settings = {**OPTIONS, "default_pool_size": sessions}
    with PgBouncer(postgres_url, "transaction", **settings) as pooler:

        async def client(url: str, seed: int) -> list[str]:
            """Returns the errors of 300 reads of five statements with equal names in psycopg."""
            database, chance, wrong = Database(url, pool_size=3), random.Random(seed), []

            async def read() -> None:
                mark, text = chance.choice("abcde"), f"{chance.random()}"
                try:
                    async with database.read() as store:
                        statement = sa.text(f"SELECT '{mark} ' || :text")
                        found = await store.connection.scalar(statement, {"text": text})
                except Exception as error:
                    wrong.append(repr(error))
                else:
                    if found != f"{mark} {text}":
                        wrong.append(f"{mark} {text}: {found}")

            for _ in range(100):
                await asyncio.gather(*(read() for _ in range(3)))
            await database.close()
            return wrong

        async def load() -> list[list[str]]:
            url = pooler.url(postgres_url)
            return await asyncio.gather(*(client(url, seed) for seed in range(3)))

        assert asyncio.run(load()) == [[], [], []]
