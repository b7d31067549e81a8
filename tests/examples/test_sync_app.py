"""The synchronous example: its own tests, its README, and its move from fastapi-users."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import argon2
import bcrypt
import httpx
import pytest

from tests.examples.documented import ROOT, check_output, commands, program_of
from tests.servers.postgres import PostgresServer
from tests.servers.process import ServeProcess, free_port
from tests.storage.rows import sql, sync_url
from tests.test_readme import comparable

EXAMPLE = ROOT / "examples" / "sync_app"
README = (EXAMPLE / "README.md").read_text(encoding="utf-8")
RUN, MOVE, CHECK = (list(commands(part)) for part in README.split("\n## ")[1:])
AUTHAPI = "authapi --app sync_app:auth"
ALICE, BOB = (UUID(f"{n:08}-0000-4000-8000-00000000000{n}") for n in (1, 2))
BOUND = 300  # seconds: a command starts several interpreters
PASSWORDS = {"alice@example.com": "a password of then", "bob@example.com": "pw"}


@pytest.fixture(params=["sqlite", "postgres"])
def empty_url(
    request: pytest.FixtureRequest, tmp_path: Path, postgres: PostgresServer, worker: str
) -> Iterator[str]:
    """The URL of an empty database, as the example takes it."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/items.db"
        return
    name = f"sync_app_{worker}"
    url = sync_url(postgres.create_database(name))
    yield url.render_as_string(hide_password=False)
    postgres.drop_database(name)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the example, as in a checkout with its programs."""
    copy = tmp_path / "examples" / "sync_app"
    shutil.copytree(EXAMPLE, copy, ignore=shutil.ignore_patterns("__pycache__", ".*", "*.db"))
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name in ("alembic", "authapi", "pytest", "uvicorn"):
        (programs / name).symlink_to(Path(sys.executable).parent / name)
    return copy


def environment(folder: Path, url: str) -> dict[str, str]:
    """The variables in which the commands of README run."""
    return {
        "PATH": f"{folder.parents[1]}/.venv/bin:{os.environ['PATH']}",
        "DATABASE_URL": url,
        "AUTHAPI_DATA_DIR": str(folder / ".data"),
    }


Run = Callable[[str], "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(folder: Path, empty_url: str) -> Run:
    """Runs a command in the folder of the example, on the empty database."""

    def run(command: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            ["bash", "-c", command],
            cwd=folder,
            env=environment(folder, empty_url),
            capture_output=True,
            text=True,
            timeout=BOUND,
            check=False,
        )

    return run


@contextmanager
def serving(folder: Path, url: str, port: int) -> Iterator[httpx.Client]:
    """Runs the application as README does; yields a client of it."""
    [uvicorn] = [command for command, _ in RUN if program_of(command) == "uvicorn"]
    command = ["bash", "-c", f"cd {folder}; exec {uvicorn.replace('8003', str(port))}"]
    address = f"http://127.0.0.1:{port}"
    with (
        ServeProcess(command, environment(folder, url), folder) as server,
        httpx.Client(base_url=address, trust_env=False, timeout=30) as http,
    ):
        server.wait_ready(f"{address}/health/ready", timeout=60)
        yield http
        assert server.terminate() == -signal.SIGTERM  # uvicorn raises it again after the shutdown
        assert "Application shutdown complete" in server.output()
        assert "Traceback" not in server.output()


def bearer(http: httpx.Client, email: str, password: str) -> dict[str, str]:
    answer = http.post("/login/access-token", data={"username": email, "password": password})
    assert answer.status_code == 200, answer.text
    assert answer.json().keys() == {"access_token", "token_type"}
    return {"Authorization": f"Bearer {answer.json()['access_token']}"}


def fill(url: str) -> None:
    """Writes the rows of an application with fastapi-users, in the format of its adapter."""
    alice, bob = PASSWORDS.values()
    hashes = {
        "alice@example.com": argon2.PasswordHasher().hash(alice),
        "bob@example.com": bcrypt.hashpw(bob.encode(), bcrypt.gensalt(4)).decode(),
    }
    users = [
        f"""INSERT INTO "user" VALUES
        ('{user_id}', '{email}', '{hashes[email]}', true, false, true)"""
        for user_id, email in zip((ALICE, BOB), hashes, strict=True)
    ]
    id_of_item = ALICE if url.startswith("postgresql") else ALICE.hex
    items = [f"INSERT INTO item VALUES ('{id_of_item}', 'tea', '{ALICE}')"]
    sql(url, *users, *items)


@pytest.mark.slow
def test_its_own_tests_pass(run: Run, empty_url: str) -> None:
    [pytest_command] = [command for command, _ in CHECK if program_of(command) == "pytest"]
    server = f"--authapi-server='{empty_url}'" if empty_url.startswith("postgresql") else ""
    done = run(f"{pytest_command} -p no:cacheprovider {server}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "skipped" not in done.stdout


def test_readme_commands_print_the_documented_output(folder: Path) -> None:
    port = free_port()
    steps = [step for step in RUN if program_of(step[0]) != "uvicorn"]
    assert len(steps) == 12
    there = (f"cd {folder}", "")
    check_output([there, *steps[:2]], {}, folder)
    with serving(folder, f"sqlite:///{folder}/sync_app.db", port):
        address = f"http://127.0.0.1:{port}"
        check_output([there, steps[0], *steps[2:]], {"http://127.0.0.1:8003": address}, folder)
    checks = [step for step in CHECK if program_of(step[0]) != "pytest"]
    check_output([there, steps[0], *checks], {}, folder)


@pytest.mark.slow
def test_a_database_of_fastapi_users_moves(run: Run, folder: Path, empty_url: str) -> None:
    assert run("alembic upgrade 0001").returncode == 0
    fill(empty_url)
    (migrate, _), *_, (move, _) = MOVE
    refused = run(f"{migrate} && {move}")
    assert refused.returncode == 1
    assert "2 accounts are not in authapi" in refused.stderr
    assert sql(empty_url, 'SELECT count(*) FROM "user"') == [(2,)]
    assert sql(empty_url, "SELECT version_num FROM alembic_version") == [("0001",)]

    for command, printed in MOVE:
        done = run(command)
        assert (done.returncode, done.stderr) == (0, "")
        assert comparable(done.stdout) == comparable(printed)
    made = run("alembic revision --autogenerate -m nothing --rev-id 0003")
    assert made.returncode == 0, made.stderr
    [revision] = (folder / "migrations" / "versions").glob("0003*.py")
    assert revision.read_text().count("    pass\n") == 2
    assert run(f"{AUTHAPI} db check").returncode == 0
    assert run(f"{AUTHAPI} users list --json").stdout.count('"email"') == 2

    with serving(folder, empty_url, free_port()) as http:
        alice, bob = (bearer(http, *known) for known in PASSWORDS.items())
        assert UUID(http.get("/me", headers=alice).json()["id"]) == ALICE
        [item] = http.get("/items", headers=alice).json()
        assert (item["title"], UUID(item["owner_id"])) == ("tea", ALICE)
        assert http.get("/items", headers=bob).json() == []
        kept = http.delete("/me", headers=alice)
        assert (kept.status_code, kept.json()["code"]) == (409, "account_in_use")
        assert http.delete("/me", headers=bob).status_code == 204
        assert http.delete(f"/items/{item['id']}", headers=alice).status_code == 204
        assert http.delete("/me", headers=alice).status_code == 204
