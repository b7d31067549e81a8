"""The production profile: settings that it refuses at startup, each with a real process."""

import os
import secrets
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import httpx
import psycopg
import pytest

from authapi.storage import migrations
from tests.servers.forked import Forking
from tests.servers.postgres import PostgresServer
from tests.servers.process import ServeProcess, free_port

SECRET = "3f9a1c7e5b2d8f604a6c8e0b1d3f5a7c"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A minimal valid environment of a production service."""
    return {
        "PATH": os.environ["PATH"],
        "AUTHAPI_ENV": "production",
        "AUTHAPI_SECRET": SECRET,
        "AUTHAPI_PUBLIC_URL": "https://auth.example.com",
        "AUTHAPI_DATABASE_URL": f"sqlite:///{tmp_path}/production.db",
        "AUTHAPI_ALLOW_SQLITE": "true",
        "AUTHAPI_DATA_DIR": str(tmp_path / "data"),
        "AUTHAPI_PORT": str(free_port()),
    }


@pytest.fixture
def refusal(environment: dict[str, str], tmp_path: Path, forking: Forking) -> Callable[[], str]:
    """Starts the service, which must fail, and returns its one-line error."""

    def run() -> str:
        done = forking.run(["serve"], environment, tmp_path)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("authapi: ")
        assert done.stderr.endswith("\n")
        assert done.stderr.count("\n") == 1
        assert "Traceback" not in done.stderr
        return done.stderr.removeprefix("authapi: ").removesuffix("\n")

    return run


@pytest.mark.parametrize("name", ["AUTHAPI_SECRET", "AUTHAPI_PUBLIC_URL", "AUTHAPI_DATABASE_URL"])
def test_a_missing_setting_is_named(
    environment: dict[str, str], name: str, refusal: Callable[[], str]
) -> None:
    del environment[name]
    assert refusal() == f"production needs {name}"


def test_all_missing_settings_are_named(
    environment: dict[str, str], refusal: Callable[[], str]
) -> None:
    for name in ("AUTHAPI_SECRET", "AUTHAPI_PUBLIC_URL", "AUTHAPI_DATABASE_URL"):
        environment[name] = ""
    expected = "production needs AUTHAPI_SECRET, AUTHAPI_PUBLIC_URL, AUTHAPI_DATABASE_URL"
    assert refusal() == expected


def test_ghsa_hgx2_28f8_6g2r_no_default_or_short_secret(
    environment: dict[str, str], refusal: Callable[[], str]
) -> None:
    environment["AUTHAPI_SECRET"] = SECRET[:31]
    assert refusal() == "AUTHAPI_SECRET: must have at least 32 characters"
    for guessable in ("a" * 40, "changeme-" * 5, "ab" * 20, "1234567890" * 4 + "password"):
        environment["AUTHAPI_SECRET"] = guessable
        message = refusal()
        assert message.startswith("AUTHAPI_SECRET is not random")
        assert guessable not in message


def test_sqlite_must_be_allowed(environment: dict[str, str], refusal: Callable[[], str]) -> None:
    del environment["AUTHAPI_ALLOW_SQLITE"]
    expected = "production on SQLite needs AUTHAPI_ALLOW_SQLITE=true"
    assert refusal() == expected


def test_public_url_must_be_https(environment: dict[str, str], refusal: Callable[[], str]) -> None:
    environment["AUTHAPI_PUBLIC_URL"] = "http://127.0.0.1:8000"
    expected = "production needs an https public_url, for the cookie to be Secure"
    assert refusal() == expected


def set_foreign_group(path: Path) -> None:
    """Give the file to a group that this process does not belong to, if it runs as root."""
    if os.geteuid() == 0:
        os.chown(path, -1, 54321)


@pytest.mark.parametrize(
    ("mode", "whom", "remedy"),
    [
        *((mode, "all users", "o-r") for mode in (0o644, 0o604, 0o666)),
        *((mode, "its group", "g-r") for mode in (0o640, 0o440, 0o660)),
    ],
)
def test_a_secret_file_readable_by_others_is_refused(
    environment: dict[str, str],
    tmp_path: Path,
    mode: int,
    whom: str,
    remedy: str,
    refusal: Callable[[], str],
) -> None:
    path = tmp_path / "secret.txt"
    path.write_text(SECRET + "\n")
    path.chmod(mode)
    set_foreign_group(path)
    del environment["AUTHAPI_SECRET"]
    environment["AUTHAPI_SECRET_FILE"] = str(path)
    expected = f"the file of AUTHAPI_SECRET_FILE is readable by {whom}: chmod {remedy}"
    assert refusal() == expected


@pytest.mark.parametrize("mode", [0o644, 0o640])
def test_a_dotenv_file_with_secrets_readable_by_others_is_refused(
    environment: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    mode: int,
    refusal: Callable[[], str],
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / ".env"
    path.write_text(f"AUTHAPI_SECRET={environment.pop('AUTHAPI_SECRET')}\nAUTHAPI_REDIS_URL=\n")
    path.chmod(mode)
    set_foreign_group(path)
    whom, remedy = ("all users", "o-r") if mode & 0o004 else ("its group", "g-r")
    expected = f".env contains AUTHAPI_SECRET and is readable by {whom}: chmod {remedy}"
    assert refusal() == expected
    # A file without secrets may be readable by all users.
    environment["AUTHAPI_SECRET"] = SECRET[:31]
    path.write_text("AUTHAPI_DOCS=true\n")
    assert refusal() == "AUTHAPI_SECRET: must have at least 32 characters"


def test_a_missing_secret_file_is_refused(
    environment: dict[str, str], tmp_path: Path, refusal: Callable[[], str]
) -> None:
    del environment["AUTHAPI_SECRET"]
    environment["AUTHAPI_SECRET_FILE"] = str(tmp_path / "nowhere")
    expected = "AUTHAPI_SECRET_FILE names a file that cannot be read"
    assert refusal() == expected


def test_database_errors_do_not_contain_the_password(
    environment: dict[str, str], refusal: Callable[[], str]
) -> None:
    environment["AUTHAPI_DATABASE_URL"] = "postgresql://me:hunter2hunter2@db:port/authapi"
    assert refusal() == "the database URL cannot be read"
    port = free_port()
    environment["AUTHAPI_DATABASE_URL"] = f"postgresql://me:hunter2hunter2@127.0.0.1:{port}/authapi"
    message = refusal()
    assert message.startswith("the database is not available: ")
    assert "hunter2" not in message


def serves(
    environment: dict[str, str],
    tmp_path: Path,
    forking: Forking,
    check: Callable[[httpx.Client], None],
) -> None:
    url = f"http://127.0.0.1:{environment['AUTHAPI_PORT']}"
    with (
        forking.start(["serve"], environment, tmp_path) as server,
        httpx.Client(base_url=url, trust_env=False, timeout=30) as http,
    ):
        server.wait_ready(f"{url}/health/ready", timeout=60)
        check(http)
        assert server.terminate() == 0
        assert server.stderr.read_text() == ""


def test_it_starts_with_a_private_secret_file_and_serves_no_docs(
    environment: dict[str, str], tmp_path: Path, forking: Forking
) -> None:
    path = tmp_path / "secret.txt"
    path.write_text(SECRET + "\n")
    path.chmod(0o600)
    del environment["AUTHAPI_SECRET"]
    environment["AUTHAPI_SECRET_FILE"] = str(path)

    def check(http: httpx.Client) -> None:
        for hidden in ("/docs", "/openapi.json", "/redoc", "/metrics", "/.git/HEAD", "/static/"):
            assert http.get(hidden).status_code == 404, hidden
        assert http.get("/health/live").headers["strict-transport-security"]
        form = {"grant_type": "password", "username": "a@example.com", "password": "x" * 20}
        assert http.post("/token", data=form).json()["error"] == "unsupported_grant_type"
        body = {"email": "a@example.com", "password": "a long walk by the sea"}
        assert http.post("/register", json=body).status_code == 201
        cookie = http.post("/login", json=body).headers["set-cookie"]
        assert cookie.startswith("__Host-authapi=")
        assert "Secure" in cookie

    serves(environment, tmp_path, forking, check)
    # The service did not create the data folder.
    assert not (tmp_path / "data").exists()


def test_v13_2_3_default_passwords_of_backends_are_refused(
    environment: dict[str, str],
    tmp_path: Path,
    forking: Forking,
    postgres_url: str,
    refusal: Callable[[], str],
) -> None:
    migrations.upgrade(postgres_url)
    environment["AUTHAPI_DATABASE_URL"] = postgres_url

    def check(http: httpx.Client) -> None:
        assert http.get("/health/ready").status_code == 200
        body = {"email": "a@example.com", "password": "a long walk by the sea"}
        assert http.post("/register", json=body).status_code == 201

    serves(environment, tmp_path, forking, check)
    reason = "contains a default password"
    for guess in ("postgres:postgres", "authapi:AuthAPI", "me:me", "me:password", "x:changeme"):
        environment["AUTHAPI_DATABASE_URL"] = f"postgresql://{guess}@db/authapi"
        assert refusal() == f"AUTHAPI_DATABASE_URL {reason}"
    for query in ("user=me&password=me", "password=postgres", "user=x&password=change%6De"):
        environment["AUTHAPI_DATABASE_URL"] = f"postgresql://db/authapi?{query}"
        assert refusal() == f"AUTHAPI_DATABASE_URL {reason}"
    environment["AUTHAPI_DATABASE_URL"] = postgres_url
    for url in ("redis://:redis@127.0.0.1:1/0", "redis://127.0.0.1:1/0?password=redis"):
        environment["AUTHAPI_REDIS_URL"] = url
        assert refusal() == f"AUTHAPI_REDIS_URL {reason}"


def test_v13_2_3_default_passwords_of_other_sources_are_refused(
    environment: dict[str, str],
    postgres: PostgresServer,
    postgres_url: str,
    tmp_path: Path,
    refusal: Callable[[], str],
) -> None:
    migrations.upgrade(postgres_url)
    role = f"r{secrets.token_hex(6)}"
    with psycopg.connect(postgres.admin_url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'postgres' IN ROLE pg_read_all_data")
    try:
        found = urlsplit(postgres_url)
        address = found._replace(netloc=f"{role}@{found.hostname}:{found.port}")
        environment["AUTHAPI_DATABASE_URL"] = urlunsplit(address)
        expected = (
            "the database has a default password, from PGPASSWORD, a password file or a service"
            " file"
        )
        environment["PGPASSWORD"] = "postgres"
        assert refusal() == expected
        del environment["PGPASSWORD"]
        file = tmp_path / "pgpass"
        file.touch(mode=0o600)
        file.write_text(f"*:*:*:{role}:postgres\n")
        environment["PGPASSFILE"] = str(file)
        assert refusal() == expected
    finally:
        with psycopg.connect(postgres.admin_url, autocommit=True) as connection:
            connection.execute(f"DROP ROLE {role}")


def test_docs_can_be_enabled(environment: dict[str, str], tmp_path: Path, forking: Forking) -> None:
    environment["AUTHAPI_DOCS"] = "true"

    def check(http: httpx.Client) -> None:
        assert http.get("/openapi.json").status_code == 200

    serves(environment, tmp_path, forking, check)


def test_development_needs_no_settings(environment: dict[str, str], tmp_path: Path) -> None:
    kept = ("PATH", "AUTHAPI_PORT", "AUTHAPI_DATA_DIR")

    url = f"http://127.0.0.1:{environment['AUTHAPI_PORT']}"
    command = [sys.executable, "-m", "authapi", "serve"]
    with ServeProcess(command, {name: environment[name] for name in kept}, tmp_path) as server:
        server.wait_ready(f"{url}/health/ready", timeout=60)
        assert httpx.get(f"{url}/openapi.json", trust_env=False).status_code == 200
    data = tmp_path / "data"
    assert data.stat().st_mode & 0o777 == 0o700
    assert (data / "secret").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("name", ["AUTHAPI_ALLOW_RESERVED_ADDRESSES", "AUTHAPI_CHEAP_HASHES"])
def test_a_setting_for_tests_is_refused(
    environment: dict[str, str], name: str, refusal: Callable[[], str]
) -> None:
    environment[name] = "true"
    assert refusal() == f"{name} is for tests, and refused in production"
