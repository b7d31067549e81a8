"""Databases in other encodings than UTF8: rejected for our own tables, accepted for an import."""

import asyncio
import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from authapi import Settings, create_app
from authapi.cli.doctor import examine
from authapi.errors import ConfigurationError
from authapi.services.schema import prepare
from authapi.storage import migrations
from authapi.storage.imports.sources import fastapi_users
from authapi.testing import client
from tests.servers.forked import Forking
from tests.servers.postgres import PostgresServer
from tests.servers.process import free_port
from tests.storage.imports.test_sources import TABLE

_numbers = itertools.count(1)

NewDatabase = Callable[[str], str]

OPERATIONS: dict[str, Callable[[str], object]] = {
    "upgrade": migrations.upgrade,
    "downgrade": lambda url: migrations.downgrade(url, "base"),
    "current": migrations.current,
    "check": migrations.check,
    "prepare": lambda url: prepare(Settings(database_url=url)),  # type: ignore[arg-type]
}
COMMANDS = (
    *(("db", "upgrade"), ("db", "downgrade", "base", "--yes"), ("db", "current"), ("db", "check")),
    *(("users", "list"), ("keys", "list"), ("sessions", "prune")),
    *(("serve", "--port", str(free_port())),),
)


@pytest.fixture
def new_database(postgres: PostgresServer, worker: str) -> Iterator[NewDatabase]:
    """Creates empty databases in any encoding."""
    made = []

    def make(encoding: str) -> str:
        name = f"encoded_{worker}_{next(_numbers)}"
        with psycopg.connect(postgres.admin_url, autocommit=True) as connection:
            create = (
                f"CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C'"
                " LOCALE_PROVIDER libc TEMPLATE template0"
            )
            connection.execute(create.encode())
        made.append(name)
        return postgres.url(name)

    yield make
    for name in made:
        postgres.drop_database(name)


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1", "EUC_KR", "WIN1252", "EUC_JP"])
def test_other_encodings_are_rejected_with_a_remedy(
    new_database: NewDatabase, encoding: str
) -> None:
    url = new_database(encoding)
    for operation in OPERATIONS.values():
        with pytest.raises(ConfigurationError) as caught:
            operation(url)
        text = str(caught.value)
        assert f"has the encoding {encoding}, but UTF8 is required" in text
        assert "ENCODING 'UTF8' TEMPLATE template0" in text
        assert "\n" not in text
    with psycopg.connect(url) as connection:
        assert connection.execute(
            "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
        ).fetchone() == (0,)


async def test_application_does_not_start_with_another_encoding(new_database: NewDatabase) -> None:
    app = create_app(Settings(database_url=new_database("SQL_ASCII")))  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="encoding SQL_ASCII"):
        async with client(app):
            pass


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["SQL_ASCII", "EUC_KR"])
def test_commands_report_another_encoding_in_one_line(
    new_database: NewDatabase, encoding: str, forking: Forking, tmp_path: Path
) -> None:
    environment = {
        "PATH": os.environ["PATH"],
        "AUTHAPI_DATA_DIR": str(tmp_path / "data"),
        "AUTHAPI_DATABASE_URL": new_database(encoding),
    }
    for command in COMMANDS:
        done = forking.run(command, environment, tmp_path)
        lines = [
            line
            for line in (done.stdout + done.stderr).splitlines()
            if f"has the encoding {encoding}" in line
        ]
        assert (done.returncode, len(lines)) == (1, 1), (command, done)
        assert "Traceback" not in done.stdout + done.stderr
        assert lines[0].startswith("authapi: ")
    done = forking.run(["doctor"], environment, tmp_path)
    assert done.returncode == 1
    assert f"has the encoding {encoding}" in done.stdout


def test_doctor_reports_another_encoding(
    new_database: NewDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTHAPI_DATABASE_URL", new_database("LATIN1"))
    [finding] = [item for item in examine() if item.check == "database"]
    assert finding.verdict == "error"
    assert "has the encoding LATIN1" in finding.message


@pytest.mark.parametrize("how", ["URL", "environment", "options", "role"])
@pytest.mark.parametrize("encoding", ["latin1", "EUC_KR", "SQL_ASCII"])
async def test_client_encoding_is_utf8(
    fresh_postgres_url: str, how: str, encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = sa.make_url(fresh_postgres_url)
    match how:
        case "URL":
            url = url.update_query_dict({"client_encoding": encoding})
        case "environment":
            monkeypatch.setenv("PGCLIENTENCODING", encoding)
        case "options":
            url = url.update_query_dict({"options": f"-c client_encoding={encoding}"})
        case "role":
            set_encoding = f"ALTER DATABASE {url.database} SET client_encoding = '{encoding}'"
            with psycopg.connect(fresh_postgres_url, autocommit=True) as connection:
                connection.execute(set_encoding.encode())
    text = url.render_as_string(hide_password=False)
    await asyncio.to_thread(migrations.check, text)
    async with client(create_app(Settings(database_url=text))) as api:  # type: ignore[arg-type]
        user = await api.create_user(name="김 Zoë 🦊")
        done = await api.post(
            "/login",
            json={"email": user.email, "password": "correct horse battery staple"},
            headers={b"user-agent": "naïve 브라우저".encode()},
        )
        assert done.status_code < 500
        await api.login(user)
        assert (await api.get("/me")).json()["name"] == "김 Zoë 🦊"


@pytest.mark.parametrize(
    ("encoding", "address"), [("LATIN1", "zoë@example.com"), ("EUC_KR", "김@example.com")]
)
def test_import_reads_a_database_in_another_encoding(
    new_database: NewDatabase, encoding: str, address: str
) -> None:
    url = new_database(encoding)
    with psycopg.connect(url, client_encoding="utf8", autocommit=True) as connection:
        connection.execute(TABLE.encode())
        insert = "INSERT INTO \"user\" VALUES ('1', %s, '$2b$12$abc', true, false, true)"
        connection.execute(insert.encode(), [address])
    assert [account["email"] for account in fastapi_users(url)] == [address]
