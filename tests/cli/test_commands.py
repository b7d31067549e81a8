"""Commands as real processes: output, effects and errors."""

import json
import subprocess
import sys
from importlib import import_module
from importlib.metadata import version
from inspect import getdoc
from pathlib import Path

import pytest

from authapi import create_app
from authapi.cli.commands import _COMMANDS
from authapi.storage import migrations
from authapi.storage.schema.revisions import number, oldest_code
from authapi.testing import client
from tests.cli.conftest import Run, failed_with_one_line
from tests.cli.processes import environment_in, run_python
from tests.conftest import SettingsFactory
from tests.servers.postgres import PostgresServer
from tests.servers.process import free_port
from tests.storage.rows import sql

PASSWORD = "correct horse battery staple"


def test_account_session_and_token_commands(run: Run) -> None:
    made = run(
        "users", "create", "alice@example.com", "--superuser", "--json", text=PASSWORD + "\n"
    )
    assert made.returncode == 0, made.stderr
    alice = json.loads(made.stdout)
    assert (alice["email"], alice["is_superuser"], alice["is_active"]) == (
        "alice@example.com",
        True,
        True,
    )
    assert PASSWORD not in made.stdout + made.stderr

    token = json.loads(
        run("tokens", "create", "ALICE@example.com", "--name", "backup", "--json").stdout
    )
    assert token["access_token"].startswith("aat_")
    listed = run("sessions", "list", alice["id"], "--json")
    assert [row["id"] for row in json.loads(listed.stdout)["items"]] == [token["id"]]
    assert token["access_token"] not in listed.stdout
    assert run("sessions", "end", token["id"]).stdout == "Ended: 1\n"
    assert run("sessions", "end", token["id"]).stdout == "Ended: 0\n"
    assert run("sessions", "prune").stdout == "Removed: 0\n"

    run("tokens", "create", "alice@example.com", "--name", "another")
    # One active superuser must remain.
    assert "last active superuser" in failed_with_one_line(run("users", "deactivate", alice["id"]))
    run("users", "create", "root@example.com", "--superuser", text=PASSWORD)
    gone = json.loads(run("users", "deactivate", "alice@example.com", "--json").stdout)
    assert gone["is_active"] is False
    assert json.loads(run("sessions", "list", alice["id"], "--json").stdout)["items"] == []
    assert json.loads(run("users", "activate", alice["id"], "--json").stdout)["is_active"] is True
    assert run("users", "set-password", "alice@example.com", text="x" + PASSWORD).returncode == 0
    listed = json.loads(run("users", "list", "--json").stdout)["items"]
    assert [user["email"] for user in listed] == ["alice@example.com", "root@example.com"]
    after = json.loads(run("users", "list", "--after", alice["id"], "--json").stdout)["items"]
    assert after == listed[1:]
    assert "alice@example.com" in run("users", "show", alice["id"]).stdout


def test_every_command_in_help_exists(run: Run) -> None:
    listed = run("--help").stdout.partition("Commands:")[2].splitlines()
    names = [line.split()[0] for line in listed if line.strip()]
    assert len(names) == len(set(names)) == 20
    for name in names:
        assert run(name, "--help").stdout.startswith(f"Usage: authapi {name} ")
    for wrong in (["user"], ["users", "lst"]):
        refused = run(*wrong)
        assert (refused.returncode, refused.stdout) == (2, "")
        assert "Did you mean" in refused.stderr


def test_the_list_of_commands_has_the_first_sentence_of_each_help() -> None:
    for name, listed in _COMMANDS.items():
        module = import_module(f"authapi.cli.{listed.module}")
        text = module.app.info.help if hasattr(module, "app") else getdoc(getattr(module, name))
        first = " ".join(str(text).partition("\n\n")[0].split())
        assert f"{first.rstrip('.')}. ".startswith(f"{listed.help} "), name


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_the_list_of_commands_imports_no_service(option: str) -> None:
    code = (
        f"import sys; from authapi.cli.commands import main; sys.argv = ['authapi', '{option}']\n"
        "heavy = {'fastapi', 'sqlalchemy', 'authapi.settings', 'rich.console'}\n"
        "try: main()\n"
        "except SystemExit: print(heavy & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("Usage: authapi ")
    assert done.stdout.endswith("set()\n")


def test_short_help_of_each_level(run: Run) -> None:
    for command in ((), ("users",), ("users", "list"), ("config",)):
        assert run(*command, "-h").stdout == run(*command, "--help").stdout != ""


def test_version_has_the_schema(run: Run) -> None:
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    expected = f"authapi {version('fastapi-authapi')} (python {python}, schema {migrations.head()})"
    assert run("--version").stdout == f"{expected}\n"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("authapi ev", ["events"]),
        ("authapi users l", ["list"]),
        ("authapi keys re", ["retire", "rewrap"]),
        ("authapi users list --act", ["--active"]),
        ("authapi events list --type mail_", ["mail_tested"]),
        ("authapi users list --role r", ["reader", "reviewer"]),
        ("authapi users roles a@example.com e", ["editor"]),
    ],
)
def test_shells_complete_commands_and_values(
    tmp_path: Path, words: str, expected: list[str]
) -> None:
    asked = {"_AUTHAPI_COMPLETE": "complete_bash", "COMP_WORDS": words}
    asked["COMP_CWORD"] = str(len(words.split()) - 1)
    roles = {"AUTHAPI_SCOPES": "a=A", "AUTHAPI_ROLES": "reader=a; reviewer=a; editor=a"}
    environment = environment_in(tmp_path, **asked, **roles)
    done = run_python("-m", "authapi", folder=tmp_path, environment=environment)
    assert done.stdout.split() == expected, done.stderr
    broken = environment | {"AUTHAPI_PORT": "many"}
    failed = run_python("-m", "authapi", folder=tmp_path, environment=broken)
    assert failed.stderr == ""


def test_a_command_behind_other_options_is_found(run: Run) -> None:
    assert run("--", "users", "list", "--help").stdout.startswith("Usage: authapi users list ")
    assert run("--", "config", "--json").stdout == run("config", "--json").stdout != ""
    assert run("--", "users", "lst").returncode == 2


def test_operator_can_grant_the_introspect_scope(run: Run) -> None:
    def scopes(who: str, *options: str) -> list[str]:
        done = run("tokens", "create", who, "--name", "gateway", "--json", *options)
        assert done.returncode == 0, done.stderr
        found: list[str] = json.loads(done.stdout)["scopes"]
        return found

    for who, options in (("alice@example.com", ()), ("root@example.com", ("--superuser",))):
        assert run("users", "create", who, *options, text=PASSWORD).returncode == 0
    # It need not be in AUTHAPI_SCOPES. By default, only tokens of superusers have it.
    assert scopes("alice@example.com", "--scope", "introspect") == ["introspect"]
    assert scopes("alice@example.com") == []
    assert scopes("root@example.com") == ["introspect"]
    refused = run("tokens", "create", "alice@example.com", "--name", "x", "--scope", "other")
    assert "does not exist" in failed_with_one_line(refused)


def test_invalid_arguments_are_one_line_errors(run: Run) -> None:
    assert "nobody@example.com" in failed_with_one_line(run("users", "show", "nobody@example.com"))
    short = failed_with_one_line(run("users", "create", "a@example.com", text="short\n"))
    assert "at least 15 characters" in short
    assert "e-mail address" in failed_with_one_line(run("users", "create", "a@@b", text=PASSWORD))
    assert run("users", "create", "a@example.com", text=PASSWORD).returncode == 0
    again = run("users", "create", "A@example.com", text=PASSWORD)
    assert "is in use" in failed_with_one_line(again)
    assert "not an id" in failed_with_one_line(run("sessions", "end", "not-an-id"))
    assert "--user" in failed_with_one_line(run("sessions", "end"))
    assert run("users", "frobnicate").returncode == 2


def beside(revision: str) -> str:
    """What `db current` says about the revision on standard error."""
    oldest = oldest_code(revision)
    return "" if oldest == revision else f"Code from {oldest} on may run beside it.\n"


async def test_commands_beside_a_newer_schema(
    run: Run, make_settings: SettingsFactory, sqlite_url: str
) -> None:
    usable = f"9999_beside_{number(migrations.head())}"
    sql(sqlite_url, f"UPDATE authapi_version SET version_num = '{usable}'")
    shown = run("db", "current", database_url=sqlite_url)
    assert (shown.stdout, shown.stderr) == (f"{usable}\n", beside(usable))
    done = run("db", "upgrade", database_url=sqlite_url)
    assert done.stdout == f"The schema is at {usable}.\n"
    async with client(create_app(make_settings(database_url=sqlite_url))) as api:
        await api.create_user()
    sql(sqlite_url, "UPDATE authapi_version SET version_num = '9999_beside_9998'")
    for command in (("db", "upgrade"), ("users", "list"), ("serve", "--port", "0")):
        line = failed_with_one_line(run(*command, database_url=sqlite_url))
        assert line.count("which code before 9998 cannot use") == 1


def test_schema_upgrade_and_downgrade(run: Run) -> None:
    head = migrations.head()
    assert run("db", "current").stdout == "nothing\n"
    assert "authapi db upgrade" in failed_with_one_line(run("db", "check"))
    assert run("db", "upgrade").stdout == f"The schema is at {head}.\n"
    assert run("db", "check").stdout == f"The schema is at {head} and matches this version.\n"
    shown = run("db", "current")
    assert (shown.stdout, shown.stderr) == (f"{head}\n", beside(head))
    assert run("db", "downgrade", "base", "--yes").stdout == "The schema is at nothing.\n"
    assert run("db", "upgrade", "head").returncode == 0
    assert run("db", "downgrade", "-1", "--yes").returncode == 0
    failed_with_one_line(run("db", "upgrade", "nonsense"))


def test_strategies_config_and_openapi(run: Run) -> None:
    done = run("strategies", "--json", strategies="session,token,jwt,basic")
    rows = json.loads(done.stdout)["items"]
    assert [row["name"] for row in rows] == ["session", "token", "jwt", "basic"]
    assert [row["logs_in"] for row in rows] == [True, True, True, False]
    hidden = {
        "secret": "canary-of-the-secret-" * 3,
        "database_url": "postgresql://alice:canary-of-the-password@127.0.0.1/x",
    }
    shown = run("config", "--json", **hidden)
    assert json.loads(shown.stdout)["session_idle"] == 86400
    assert "canary" not in shown.stdout + run("config", **hidden).stdout
    document = json.loads(run("openapi").stdout)
    schemes = {"session", "token", "jwt", "client_secret"}
    assert set(document["components"]["securitySchemes"]) == schemes
    # client_secret is not a strategy: only a client that introspects has an id and a secret.
    taking = {
        (path, method)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if any("client_secret" in choice for choice in operation.get("security", ()))
    }
    assert taking == {("/token/introspect", "post")}


def test_failed_start_prints_the_cause(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "unknown strategy 'oauth'" in failed_with_one_line(run("serve", strategies="oauth"))
    assert "cannot load" in failed_with_one_line(run("serve", strategies="no.such:Module"))
    below_a_file = run("serve", data_dir=str(tmp_path / "file" / "data"))
    assert "data folder" in failed_with_one_line(below_a_file)
    secret_url = "mysql://alice:canary@127.0.0.1/x"
    assert "canary" not in failed_with_one_line(run("serve", database_url=secret_url))
    assert "AUTHAPI_PORT" in failed_with_one_line(run("serve", port="many"))
    missing = failed_with_one_line(run("serve", env="production"))
    for name in ("AUTHAPI_SECRET", "AUTHAPI_PUBLIC_URL", "AUTHAPI_DATABASE_URL"):
        assert name in missing
    away = f"postgresql://alice:canary@127.0.0.1:{free_port()}/x"
    assert "canary" not in failed_with_one_line(run("serve", database_url=away))


def test_serve_rejects_an_old_postgres_schema(
    run: Run, postgres: PostgresServer, worker: str
) -> None:
    name = f"old_{worker}"
    url = postgres.create_database(name)
    try:
        line = failed_with_one_line(run("serve", database_url=url))
        assert "authapi db upgrade" in line
        assert run("db", "upgrade", database_url=url).returncode == 0
        assert run("db", "check", database_url=url).returncode == 0
    finally:
        postgres.drop_database(name)
