"""The example with own tables: its tests, its README, and both chains of migrations."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from tests.examples.documented import ROOT, check_output, commands, in_folder, prepare, program_of
from tests.servers.forked import Forking
from tests.servers.postgres import PostgresServer
from tests.servers.process import ServeProcess, free_port

FOLDER = ROOT / "examples" / "async_app"
README = (FOLDER / "README.md").read_text(encoding="utf-8")
ACCOUNT = {"email": "ada@example.com", "password": "correct horse battery staple"}
APP = ("--app", "async_app.main:auth")

Environment = Mapping[str, str]
Command = Callable[..., str]


@pytest.fixture(params=["sqlite", "postgres"])
def environment(
    request: pytest.FixtureRequest, tmp_path: Path, worker: str
) -> Iterator[Environment]:
    """The environment of the application, with an empty database of each kind."""
    given = {
        "PATH": os.environ["PATH"],
        "AUTHAPI_DATA_DIR": str(tmp_path / "data"),
        "PYTHONPATH": str(FOLDER.parent),
    }
    if request.param == "sqlite":
        yield {**given, "DATABASE_URL": f"sqlite+aiosqlite:///{tmp_path}/items.db"}
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    name = f"async_app_{worker}"
    server.create_database(name)
    url = sa.make_url(server.url(name)).set(drivername="postgresql+psycopg")
    yield {**given, "DATABASE_URL": url.render_as_string(hide_password=False)}
    server.drop_database(name)


@pytest.fixture
def authapi(environment: Environment, forking: Forking) -> Command:
    """Runs an `authapi` command for the application; returns its output."""

    def run_command(*arguments: str) -> str:
        # `--app` imports from the current folder.
        return output_of(forking.run([*APP, *arguments], environment, FOLDER.parent))

    return run_command


@pytest.fixture
def alembic(environment: Environment) -> Command:
    """Runs an `alembic` command for the application; returns its output."""
    return partial(run_module, environment, "alembic", "-c", f"{FOLDER}/alembic.ini")


def run_module(environment: Environment, *command: str) -> str:
    return output_of(
        subprocess.run(
            [sys.executable, "-m", *command],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    )


def output_of(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_tests_of_the_example_pass(environment: Environment, tmp_path: Path) -> None:
    # `--basetemp`, so that the inner run does not clean up folders of other runs.
    options: tuple[str, ...] = ("-q", "-c", f"{FOLDER}/pytest.ini", "-p", "no:cacheprovider")
    folder = f"--basetemp={tmp_path}/inner"
    given = dict(environment)
    url = sa.make_url(given.pop("DATABASE_URL"))
    if url.get_backend_name() == "postgresql":
        server = url.set(drivername="postgresql").render_as_string(hide_password=False)
        options = (*options, f"--authapi-server={server}")
    assert "19 passed" in run_module(given, "pytest", *options, folder, f"{FOLDER}/tests")


@pytest.fixture
def api(
    environment: Environment, authapi: Command, alembic: Command, tmp_path: Path
) -> Iterator[httpx.Client]:
    """A client of the migrated application, over a socket."""
    authapi("db", "upgrade")
    alembic("upgrade", "head")
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "uvicorn", "async_app.main:app", "--port", str(port)]
    given = {**environment, "AUTHAPI_PUBLIC_URL": address}
    with ServeProcess(command, given, tmp_path) as server:
        server.wait_ready(f"{address}/api/v1/auth/health/ready", timeout=60)
        with httpx.Client(base_url=address, trust_env=False) as client:
            yield client
        assert server.terminate() == -signal.SIGTERM  # uvicorn stops, and raises it again
        assert "Traceback" not in server.output()


def test_accounts_and_items_over_a_socket(
    api: httpx.Client, authapi: Command, alembic: Command
) -> None:
    body = {**ACCOUNT, "profile": {"handle": "ada", "city": "Bern"}}
    assert api.post("/api/v1/auth/register", json=body).status_code == 201
    taken = api.post("/api/v1/auth/register", json={**body, "email": "bob@example.com"})
    assert (taken.status_code, taken.json()["code"]) == (409, "profile_taken")
    assert api.post("/api/v1/auth/login", json=ACCOUNT).status_code == 200
    assert api.get("/api/v1/auth/me").json()["profile"] == body["profile"]
    [first] = api.get("/api/v1/items").json()
    url = f"/api/v1/items/{first['id']}"
    assert api.patch(url, json={"lent_to": "Bob", "is_public": True}).status_code == 200
    assert api.delete("/api/v1/auth/me").status_code == 409

    # The commands run the hooks too, and each side's check sees only its own tables.
    refused = refusal_of(authapi, "users", "delete", ACCOUNT["email"], "--yes")
    assert "an item is lent" in refused
    assert ACCOUNT["email"] in authapi("users", "list")
    authapi("db", "check")
    assert "No new upgrade operations" in alembic("check")

    assert api.patch(url, json={"lent_to": None}).status_code == 200
    assert api.delete("/api/v1/auth/me").status_code == 204
    assert api.get("/api/v1/items").status_code == 401
    assert api.get("/api/v1/public-items").json() == [{"title": first["title"], "owner": None}]
    document = api.get("/openapi.json").json()
    assert {"ProfileIn", "ProfileOut", "ItemOut"} <= document["components"]["schemas"].keys()


def refusal_of(command: Command, *arguments: str) -> str:
    """Runs a command that fails; returns its output."""
    with pytest.raises(AssertionError) as refused:
        command(*arguments)
    return str(refused.value)


def test_migrations_of_the_example_leave_accounts(authapi: Command, alembic: Command) -> None:
    authapi("db", "upgrade")
    alembic("upgrade", "head")
    alembic("downgrade", "base")
    authapi("db", "check")


@pytest.fixture
def documented(tmp_path: Path) -> Iterator[str]:
    """Migrates and starts the application as in README; yields its address."""
    prepare(tmp_path)
    export, upgrade, serve = [c for c, _ in commands(README)][:3]
    port = str(free_port())
    given = {"PATH": os.environ["PATH"]}
    script = f"{export}\n{upgrade}".replace("8003", port)
    subprocess.run(["bash", "-euc", script], cwd=tmp_path, env=given, check=True)
    command = in_folder(tmp_path, f"{export}; {serve}".replace("8003", port))
    with ServeProcess(command, given, tmp_path) as server:
        server.wait_ready(f"http://127.0.0.1:{port}/api/v1/auth/health/ready", timeout=60)
        yield f"http://127.0.0.1:{port}"


def test_readme_commands_print_the_documented_output(documented: str, tmp_path: Path) -> None:
    walked = list(commands(README))[3:-1]
    assert len(walked) == 16
    check_output(walked, {"http://127.0.0.1:8003": documented}, tmp_path)


def test_readme_names_files_and_tests() -> None:
    *_, (command, _) = commands(README)
    assert program_of(command) == "pytest"
    assert all((ROOT / word).exists() for word in command.split() if word.startswith("examples/"))
    for line in README.splitlines():
        if line.startswith("| ["):
            assert (FOLDER / line.split("](")[1].split(")")[0]).exists(), line
