"""Migration from fastapi-users, with its own example application and database.

The example is part of the source distribution of the release, and runs in a virtual environment
that has authapi too. Users register with the example over HTTP. After the import, they log in to
authapi with the same passwords, and have the same ids.
"""

import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import httpx
import pytest

from tests.environments import INSTALL_BOUND, check, create_environment, install
from tests.servers.forked import Forking
from tests.servers.postgres import PostgresServer
from tests.servers.process import ServeProcess, free_port
from tests.storage.rows import sql
from tests.test_readme import ROOT, blocks, steps

pytestmark = pytest.mark.slow

RELEASE = "15.0.5"
PASSWORDS = {
    "alice@example.com": "a password of then",
    "bob@example.com": "pw",
    "Carol@Example.com": "pässwörd 🐎 " * 20,
}
OLD_BCRYPT = "before there was argon2"
IDS_HERE = "SELECT id, email_given FROM authapi_users"
IDS_THERE = 'SELECT id, email FROM "user"'
PAGE = (ROOT / "docs" / "from-fastapi-users.md").read_text("utf-8")


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a virtual environment of fastapi-users, and its example."""
    folder = tmp_path_factory.mktemp("fastapi-users")
    python = create_environment(folder / "venv")
    install(python, "pip", "hatchling", "hatch-regex-commit", "editables")
    both = (f"fastapi-users[sqlalchemy]=={RELEASE}", "-e", f"{ROOT}[postgres,bcrypt]")
    install(python, "--no-build-isolation", *both)
    check(python)
    source = ("--no-deps", "--no-build-isolation", "--no-binary", "fastapi-users")
    download = (str(python), "-m", "pip", "--quiet", "download", *source, "--dest", str(folder))
    command = [*download, f"fastapi-users=={RELEASE}"]
    subprocess.run(command, check=True, timeout=INSTALL_BOUND)
    [archive] = folder.glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        # Python before 3.11.4 knows no filter, and ignores this attribute.
        packed.extraction_filter = getattr(tarfile, "data_filter", None)
        packed.extractall(folder)
    (folder / f"fastapi_users-{RELEASE}" / "examples" / "sqlalchemy").rename(folder / "example")
    return folder


@pytest.fixture(params=["sqlite", "postgres"])
def foreign_url(
    request: pytest.FixtureRequest, peer: Path, postgres: PostgresServer, worker: str
) -> Iterator[str]:
    """The URL of an empty database for the example, in the format of the example."""
    text = (peer / "example/app/db.py").read_text()
    [before] = [line for line in text.splitlines() if line.startswith("DATABASE_URL = ")]
    if request.param == "sqlite":
        assert before == 'DATABASE_URL = "sqlite+aiosqlite:///./test.db"'
        (peer / "example/test.db").unlink(missing_ok=True)
        yield f"sqlite+aiosqlite:///{peer}/example/test.db"
        return
    name = f"fastapi_users_{worker}"
    url = postgres.create_database(name)
    theirs = url.replace("postgresql://", "postgresql+psycopg://", 1)
    (peer / "example/app/db.py").write_text(text.replace(before, f"DATABASE_URL = {theirs!r}"))
    yield theirs
    (peer / "example/app/db.py").write_text(text)
    postgres.drop_database(name)


@contextmanager
def running(peer: Path, app: str, **variables: str) -> Iterator[httpx.Client]:
    """Run an application in the folder of the example; yield a client of it."""
    port = free_port()
    python = str(peer / "venv/bin/python")
    command = [python, "-m", "uvicorn", app, "--port", str(port)]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(peer / "example"), **variables}
    here = Path.cwd()
    os.chdir(peer / "example")  # the path of its SQLite file is relative
    try:
        server = ServeProcess(command, environment, peer)
    finally:
        os.chdir(here)
    url = f"http://127.0.0.1:{port}"
    with server, httpx.Client(base_url=url, trust_env=False, timeout=30) as http:
        server.wait_ready(f"{url}/openapi.json", timeout=60)
        yield http


def register(peer: Path, accounts: Mapping[str, str] = PASSWORDS) -> None:
    """Run the example, and register users."""
    with running(peer, "app.app:app") as http:
        for email, password in accounts.items():
            made = http.post("/auth/register", json={"email": email, "password": password})
            assert made.status_code == 201, made.text
            form = {"username": email, "password": password}
            assert http.post("/auth/jwt/login", data=form).status_code == 200


def old_hash(peer: Path) -> str:
    """A bcrypt hash, as accounts of older versions of fastapi-users have."""
    program = (
        f"from pwdlib.hashers.bcrypt import BcryptHasher;print(BcryptHasher().hash({OLD_BCRYPT!r}))"
    )
    done = subprocess.run(
        [peer / "venv/bin/python", "-c", program], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def stored_hashes(url: str) -> dict[str, str]:
    """Maps the address of each account to its hash."""
    return {row[0]: row[1] for row in sql(url, "SELECT email, password_hash FROM authapi_users")}


def test_imported_users_log_in_with_their_passwords(
    peer: Path, foreign_url: str, tmp_path: Path, forking: Forking
) -> None:
    register(peer)
    insert = """INSERT INTO "user" (id, email, hashed_password, is_active,
    is_superuser, is_verified)
    VALUES ('{}', '{}', '{}', {}, {}, true)"""
    ids = (f"{n:08}-0000-4000-8000-000000000000" for n in range(9))
    bcrypt = old_hash(peer)
    sql(
        foreign_url,
        insert.format(next(ids), "dan@example.com", bcrypt, "true", "false"),
        insert.format(next(ids), "eve@example.com", bcrypt, "false", "false"),
    )
    before = sql(foreign_url, 'SELECT * FROM "user" ORDER BY id')

    port = free_port()
    url, database = f"http://127.0.0.1:{port}", f"sqlite:///{tmp_path}/data/authapi.db"
    environment = {"PATH": os.environ["PATH"], "AUTHAPI_DATA_DIR": str(tmp_path / "data")}
    command = ("users", "import", foreign_url, "--from", "fastapi-users", "--keep-ids", "--json")
    done = forking.run(command, environment, tmp_path, "")
    assert (done.returncode, done.stderr) == (0, "")
    assert '"added": 5' in done.stdout
    assert sql(foreign_url, 'SELECT * FROM "user" ORDER BY id') == before
    kept = {email: UUID(str(user_id)) for user_id, email in sql(database, IDS_HERE)}
    assert kept == {email: UUID(str(user_id)) for user_id, email in sql(foreign_url, IDS_THERE)}
    hashes = stored_hashes(database)
    assert len(hashes) == 5
    assert all(text.startswith("foreign:") for text in hashes.values())

    serve = [sys.executable, "-m", "authapi", "serve", "--port", str(port)]
    with (
        ServeProcess(serve, environment, tmp_path) as server,
        httpx.Client(base_url=url, trust_env=False, timeout=30) as http,
    ):
        server.wait_ready(f"{url}/health/ready", timeout=60)

        def log_in(email: str, password: str) -> int:
            body = {"email": email, "password": password, "strategy": "token"}
            return http.post("/login", json=body).status_code

        for email, password in {**PASSWORDS, "dan@example.com": OLD_BCRYPT}.items():
            assert log_in(email, password + "x") == 401
            assert log_in(email, password) == 200, email
        assert log_in("eve@example.com", OLD_BCRYPT) == 401

        after = stored_hashes(database)
        assert after.pop("eve@example.com") == hashes["eve@example.com"]
        assert all(text.startswith("$argon2id$v=19$m=19456,t=2,p=1$") for text in after.values())
        for email, password in PASSWORDS.items():
            assert log_in(email, password) == 200
            assert log_in(email, password + "x") == 401
        assert server.terminate() == 0
        assert "Traceback" not in server.output()
        assert "trapped" not in server.output()


@pytest.mark.parametrize("foreign_url", ["sqlite"], indirect=True)
def test_page_moves_the_example_route_by_route(
    peer: Path, foreign_url: str, tmp_path: Path
) -> None:
    passwords = dict(list(PASSWORDS.items())[::2])
    register(peer, passwords)
    environment = {"PATH": f"{peer}/venv/bin", "AUTHAPI_DATA_DIR": str(tmp_path / "data")}
    [(command, printed)] = [step for text in blocks("console", PAGE) for step in steps(text)]
    done = subprocess.run(
        command.split(), check=True, cwd=peer / "example", env=environment, capture_output=True
    )
    assert (done.stdout.decode().strip(), done.stderr) == (printed.strip(), b"")
    [program] = blocks("python", PAGE)
    (peer / "example/app/moving.py").write_text(program)
    with running(peer, "app.moving:app", AUTHAPI_DATA_DIR=str(tmp_path / "data")) as http:
        for email, password in passwords.items():
            form = {"username": email, "password": password}
            there = http.post("/auth/jwt/login", data=form).json()["access_token"]
            body = {"email": email, "password": password, "strategy": "jwt"}
            here = http.post("/login", json=body).json()["access_token"]
            answers = [
                http.get(path, headers={"Authorization": f"Bearer {token}"})
                for path, token in (("/authenticated-route", there), ("/moved-route", here))
            ]
            assert [answer.status_code for answer in answers] == [200, 200]
            assert answers[0].json() == answers[1].json()
            for path, token in (("/authenticated-route", here), ("/moved-route", there)):
                refused = http.get(path, headers={"Authorization": f"Bearer {token}"})
                assert refused.status_code == 401
        assert "/auth/register" not in http.get("/openapi.json").json()["paths"]
