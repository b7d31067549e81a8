"""Errors of commands: one line on standard error, without secrets."""

import json
import socket
from pathlib import Path

import pytest
import sqlalchemy as sa
import typer
from fastapi import HTTPException

from authapi.cli import commands
from authapi.storage import migrations
from tests.cli.conftest import Run, failed_with_one_line
from tests.servers.process import free_port

PASSWORD = "correct horse battery staple"


def test_invalid_passwords_are_rejected(run: Run) -> None:
    create = ("users", "create", "alice@example.com")
    assert "at least 15" in failed_with_one_line(run(*create))
    assert "at most 1024" in failed_with_one_line(run(*create, text="x" * 1025))
    assert "UTF-8" in failed_with_one_line(run(*create, text="\udcff" * 20))
    assert "NUL" in failed_with_one_line(run(*create, text="pass\0" * 5))
    # A password is never an argument, where every process of the machine could read it.
    for option in ("--password", "-p"):
        refused = run(*create, option, PASSWORD, text=PASSWORD)
        assert (refused.returncode, refused.stdout) == (2, "")
    assert json.loads(run("users", "list", "--json").stdout) == {"items": [], "next": None}


def test_password_is_the_first_line_as_utf8_in_any_locale(run: Run) -> None:
    password = "pässwörd über alles 🐎"
    made = run(
        "users", "create", "alice@example.com", "--json", text=f"{password}\r\nmore\n", docs="no"
    )
    assert made.returncode == 0, made.stderr
    assert "ä" not in made.stdout
    same = run("users", "set-password", "alice@example.com", text=password)
    assert same.stdout == "Password set. All sessions and tokens have ended.\n"


def test_the_answer_of_a_hook_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    application = typer.Typer(pretty_exceptions_enable=False)
    raised: list[Exception] = [HTTPException(409, "invoices are open"), LookupError("a defect")]

    @application.command()
    def delete() -> None:
        raise raised.pop(0)

    monkeypatch.setattr(commands, "_list_of_commands", lambda: application)
    monkeypatch.setattr("sys.argv", ["authapi"])
    with pytest.raises(SystemExit, match="1"):
        commands.main()
    assert capsys.readouterr().err == "authapi: 409: invoices are open\n"
    with pytest.raises(LookupError, match="a defect"):
        commands.main()


def test_invalid_names_and_ids_are_rejected(run: Run) -> None:
    def fails(*arguments: str) -> str:
        return failed_with_one_line(run(*arguments, text=PASSWORD))

    for name in ("x" * 201, "", "\x1b[2J", "a\nb"):
        assert "name: 1 to 200" in fails("users", "create", "a@example.com", "--name", name)
    assert "name: 1 to 100" in fails("tokens", "create", "a@example.com", "--name", "x" * 101)
    assert "must be a user name" in fails("users", "show", "a\nb\x1b[2J")
    assert "must be a user name" in fails("users", "list", "--after", "x")
    assert "user not found" in fails("users", "show", "01900000-0000-7000-8000-000000000000")
    assert "user not found" in fails("sessions", "end", "--user", "a@example.com")
    assert "email: must be one e-mail address" in fails("users", "show", "mıke@example.com")


def test_invalid_token_options_are_rejected(run: Run) -> None:
    run("users", "create", "a@example.com", text=PASSWORD)
    create = ("tokens", "create", "a@example.com", "--name", "x")
    assert "scopes: " in failed_with_one_line(run(*create, "--scope", "nope"))
    assert "expires_in: " in failed_with_one_line(run(*create, "--expires-in", "9999999999"))
    for seconds in ("0", "-1", "9" * 30, "soon"):
        assert run(*create, "--expires-in", seconds).returncode == 2
    for words in ("1h", "90s", "1h 30m", "P1D"):
        assert run(*create, "--expires-in", words).returncode == 0
    wrong = run(*create, "--expires-in", "soon")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "must be a duration" in wrong.stderr
    made = run(*create, "--scope", "a", "--expires-in", "60", "--json", scopes="a=A; b=B")
    assert json.loads(made.stdout)["scopes"] == ["a"]
    run("users", "deactivate", "a@example.com")
    failed_with_one_line(run(*create))


def test_a_wrong_choice_is_named_without_the_words_of_a_library(run: Run) -> None:
    for command in (("events", "list", "--type", "nosuch"), ("users", "list", "--sort", "nosuch")):
        for arguments in (command, ("--", *command)):
            refused = run(*arguments)
            assert refused.returncode == 2
            assert "'nosuch' is not one of" in refused.stderr
            assert "Value error" not in refused.stderr


def test_invalid_settings_are_rejected_without_their_values(run: Run, tmp_path: Path) -> None:
    def fails(**settings: str) -> str:
        return failed_with_one_line(run("config", **settings))

    assert "AUTHAPI_SECRET_FILE" in fails(secret_file=str(tmp_path / "missing"))
    wrong = fails(secret="canary", workers="canary", public_url="https://u:canary@example.com")
    assert "canary" not in wrong
    for name in ("SECRET", "WORKERS", "PUBLIC_URL"):
        assert f"AUTHAPI_{name}: " in wrong
    assert "strategies must not be empty" in fails(strategies=",")
    assert "AUTHAPI_DEFAULT_STRATEGY" in failed_with_one_line(
        run("strategies", default_strategy="basic")
    )


def test_a_dotenv_that_is_not_utf8_is_one_line(run: Run, tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes("AUTHAPI_PAGE_TITLE=Zoë\n".encode("latin-1"))
    for command in ("config", "stats", "serve"):
        assert failed_with_one_line(run(command)) == "authapi: .env is not UTF-8"
    doctor = run("doctor")
    assert (doctor.returncode, doctor.stderr) == (1, "")
    assert ".env is not UTF-8" in doctor.stdout


def test_an_error_has_one_hint(run: Run, sqlite_url: str) -> None:
    def fails(*command: str, **settings: str) -> list[str]:
        return run(*command, **settings).stderr.splitlines()

    told, hint = fails("config", port="many", workers="0", limit_mails="x", database_timeout="0")
    assert told == (
        "authapi: AUTHAPI_PORT: must be a whole number; AUTHAPI_LIMIT_MAILS: must be a rate such"
        " as 10/minute or 100/2 hours; AUTHAPI_WORKERS: must be at least 1;"
        " AUTHAPI_DATABASE_TIMEOUT: must be more than 0"
    )
    assert hint == "hint: `authapi config --describe` says what each setting takes"
    assert len(fails("config", strategies=",")) == 1
    assert fails("users", "show", "a@example.com") == [
        "authapi: user not found: a@example.com",
        "hint: see `authapi users list`",
    ]
    migrations.downgrade(sqlite_url, "base")
    found = fails("users", "list", database_url=sqlite_url, migrate="false")
    assert found[0].endswith(f"is at nothing, this version needs {migrations.head()}")
    assert found[1] == "hint: run `authapi db upgrade`"


def test_unusable_databases_are_rejected(run: Run, tmp_path: Path, postgres_url: str) -> None:
    (tmp_path / "text.db").write_text("this is no database, but long enough to be looked at" * 9)

    def fails(url: str, *arguments: str) -> str:
        line = failed_with_one_line(run(*arguments, database_url=url))
        assert "canary" not in line
        return line

    not_one = f"sqlite:///{tmp_path / 'text.db'}"
    assert "is not a SQLite database" in fails(not_one, "db", "upgrade")
    nowhere = f"sqlite:///{tmp_path / 'no' / 'such' / 'folder.db'}"
    assert "cannot open the database file" in fails(nowhere, "users", "list")
    assert "must name a file" in fails("sqlite://", "db", "current")
    assert "cannot be read" in fails("canary", "db", "current")
    away = f"postgresql://alice:canary@127.0.0.1:{free_port()}/x"
    assert "refused" in fails(away, "users", "list")
    wrong = sa.make_url(postgres_url).set(password="canary").render_as_string(hide_password=False)
    assert "password authentication failed" in fails(wrong, "db", "check")


@pytest.mark.parametrize("host", ["192.0.2.1", "no host"])
def test_serve_rejects_an_address_of_another_machine(run: Run, host: str) -> None:
    line = failed_with_one_line(run("serve", "--host", host, "--port", "0"))
    assert f"cannot listen on {host} port 0: " in line
    assert "Unknown error" not in line


@pytest.mark.parametrize("host", ["\udcff\udcfe", "é..x", "é" * 70])
def test_serve_rejects_an_invalid_host(run: Run, host: str) -> None:
    line = failed_with_one_line(run("serve", "--port", "0", host=host))
    assert line == "authapi: AUTHAPI_HOST is not a host name or address"


def test_serve_rejects_a_damaged_data_folder(run: Run, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "secret").write_text("too short")
    assert "is damaged" in failed_with_one_line(run("serve", "--port", "0"))
    (tmp_path / "data" / "authapi.db").unlink()
    (tmp_path / "data" / "authapi.db").write_text("this is no database" * 99)
    assert "is not a SQLite database" in failed_with_one_line(run("serve", "--port", "0"))


def test_serve_rejects_missing_scanner_keys(run: Run) -> None:
    line = failed_with_one_line(run("serve", "--port", "0", leak_report_keys="none.json"))
    assert "AUTHAPI_LEAK_REPORT_KEYS names a file that cannot be read" in line


def test_a_failed_start_releases_the_port(run: Run) -> None:
    port = free_port()
    failed_with_one_line(run("serve", "--port", str(port), secret="short"))
    failed_with_one_line(run("serve", "--port", str(port), strategies="nope"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", port))


READING = [
    ("users", "list"),
    ("users", "show", "a@example.com"),
    ("users", "factors", "a@example.com"),
    ("users", "export"),
    ("sessions", "list", "a@example.com"),
    ("sessions", "list", "--all"),
    ("tokens", "list"),
    ("tokens", "list", "a@example.com"),
    ("events", "list"),
    ("events", "export"),
    ("keys", "list"),
    ("mail", "list"),
    ("webhooks", "list"),
    ("config",),
    ("config", "--changed"),
    ("strategies",),
    ("stats",),
    ("db", "current"),
]


@pytest.mark.parametrize("command", READING, ids=" ".join)
def test_reading_needs_no_signing_keys_and_makes_none(
    run: Run, sqlite_url: str, tmp_path: Path, command: tuple[str, ...]
) -> None:
    right, wrong = {"secret": "3f9a1c7e5b2d8f60" * 2}, {"secret": "0f1e2d3c4b5a6978" * 2}
    here = {"database_url": sqlite_url}
    create = ("users", "create", "a@example.com")
    assert run(*create, text=PASSWORD, **right, **here).returncode == 0
    expected = run(*command, **right, **here)
    assert expected.returncode == 0
    found = run(*command, **wrong, **here)
    assert (found.returncode, found.stdout, found.stderr) == (0, expected.stdout, expected.stderr)
    # In a new installation, there are no keys and no secret afterwards either.
    run(*command)
    assert not (tmp_path / "data" / "secret").exists()
    assert json.loads(run("keys", "list", "--json").stdout)["items"] == []
