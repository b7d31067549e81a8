"""The option `--app`: commands with the settings and the engine that are given in code."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.cli.processes import run_python
from tests.facade.notes import driver_url

MODULE = """
from fastapi import FastAPI, HTTPException
from sqlalchemy.ext.asyncio import create_async_engine
from authapi import AuthAPI, EventType, Settings

engine = create_async_engine({url!r})
auth = AuthAPI(Settings(jwt_audience="from-code"), engine=engine)
app = FastAPI(title="Shop", lifespan=auth.lifespan)
auth.install(app)
other = 7

@auth.on(EventType.SUPERUSER_GRANTED)
async def refuse(event, tx):
    raise HTTPException(409, "no superusers in this shop")
"""


@pytest.fixture
def folder(sqlite_url: str, tmp_path: Path) -> Path:
    """A folder with an application whose engine has the database."""
    (tmp_path / "shop").mkdir()
    text = MODULE.format(url=driver_url(sqlite_url, "async"))
    (tmp_path / "shop" / "main.py").write_text(text)
    (tmp_path / "shop" / "broken.py").write_text("import missing_dependency\n")
    return tmp_path


def test_commands_use_the_settings_and_the_database_of_the_application(
    folder: Path, run: Run
) -> None:
    use = ("--app", "shop.main:auth")
    assert json.loads(run(*use, "config", "--json").stdout)["jwt_audience"] == "from-code"
    made = run(*use, "users", "create", "a@example.com", text="correct horse battery\n")
    assert (made.returncode, made.stderr) == (0, "")
    shown = run("--app=shop.main:auth", "users", "show", "a@example.com", "--json")
    assert json.loads(shown.stdout)["email"] == "a@example.com"
    assert "matches this version" in run(*use, "db", "check").stdout
    gone = run(*use, "users", "delete", "a@example.com", "--yes")
    assert (gone.returncode, gone.stdout) == (0, "Deleted.\n")
    document = json.loads(run(*use, "openapi").stdout)
    assert document["info"]["title"] == "Shop"
    assert "settings" in run(*use, "doctor").stdout


def test_commands_know_the_prefix_of_the_application(folder: Path, run: Run) -> None:
    main = folder / "shop" / "main.py"
    text = main.read_text().replace("auth.install(app)", 'auth.install(app, prefix="/api/auth")')
    main.write_text(text)
    use = ("--app", "shop.main:auth")
    rows = json.loads(run(*use, "doctor", "--json").stdout)
    [message] = [row["message"] for row in rows if row["check"] == "routes"]
    base = "http://127.0.0.1:8000"
    assert message.startswith(f"{base}/api/auth; ")
    assert f"{base}/.well-known/oauth-authorization-server/api/auth" in message
    paths = json.loads(run(*use, "openapi").stdout)["paths"]
    assert "/api/auth/login" in paths
    assert "/login" not in paths


def test_commands_run_the_hooks_of_the_application(folder: Path, run: Run) -> None:
    use = ("--app", "shop.main:auth", "users")
    assert run(*use, "create", "a@example.com", text="correct horse battery\n").stderr == ""
    refused = run(*use, "superuser", "a@example.com")
    assert refused.returncode == 1
    assert refused.stderr.count("no superusers in this shop") == 1
    shown = json.loads(run(*use, "show", "a@example.com", "--json").stdout)
    assert shown["is_superuser"] is False


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--app", "shop.main", "config"), "--app needs module:name"),
        (("--app",), "--app needs module:name"),
        (("--app", "shop.nothing:auth", "config"), "there is no module shop.nothing"),
        (("--app", "nothing.main:auth", "config"), "there is no module nothing.main"),
        (("--app", "shop.main:other", "config"), "shop.main:other is not an AuthAPI"),
        (("--app", "shop.main:absent", "config"), "shop.main:absent is not an AuthAPI"),
        (("--app", "shop.main:auth", "serve"), "serve runs the service alone"),
    ],
)
def test_a_wrong_application_is_one_line(
    arguments: tuple[str, ...], message: str, tmp_path: Path, sqlite_url: str, run: Run
) -> None:
    (tmp_path / "shop").mkdir()
    text = MODULE.format(url=driver_url(sqlite_url, "async"))
    (tmp_path / "shop" / "main.py").write_text(text)
    done = run(*arguments)
    assert done.returncode == 1
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_an_error_of_the_module_itself_is_shown_as_it_is(folder: Path) -> None:
    done = run_python("-m", "authapi", "--app", "shop.broken:auth", "config", folder=folder)
    assert done.returncode == 1
    assert "No module named 'missing_dependency'" in done.stderr
