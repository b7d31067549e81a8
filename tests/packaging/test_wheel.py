"""The wheel in a new venv, run from an empty folder."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import httpx
import pytest
from alembic.script import ScriptDirectory
from tools import release

from tests.environments import check, create_environment, install
from tests.servers.process import ServeProcess, free_port
from tests.test_pytest_plugin import outcome, run_pytest
from tests.test_testing_md import write_files

pytestmark = pytest.mark.packaging

ROOT = Path(__file__).resolve().parents[2]
START_UP = 30.0  # seconds; a first start creates keys and migrates


def pip(python: Path, *arguments: str | Path) -> None:
    """Runs pip with the configuration of this machine; a failure contains the output of pip."""
    done = subprocess.run(
        [python, "-m", "pip", "--disable-pip-version-check", *arguments],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip(Path(sys.executable), "wheel", "--no-deps", "--no-build-isolation", "-w", folder, ROOT)
    (built,) = folder.iterdir()
    return built


@pytest.fixture(scope="module")
def authapi(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command in a venv with only the locked packages and the wheel."""
    folder = tmp_path_factory.mktemp("venv")
    python = create_environment(folder / "venv")
    install(python, "--require-hashes", "-r", str(ROOT / "requirements" / "run.txt"))
    install(python, "--no-deps", "--no-index", str(wheel))
    check(python)
    return python.parent / "authapi"


class Place:
    """An empty working folder, a data folder, and a minimal environment."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cwd = folder / "cwd"
        self.data = folder / "data"
        self.cwd.mkdir()
        self.data.mkdir(mode=0o700)
        self.environ = {
            "PATH": os.defpath,
            "HOME": str(self.cwd),
            "LANG": "C.UTF-8",
            "PYTHONWARNINGS": "default",
            "AUTHAPI_DATA_DIR": str(self.data),
        }

    def run(self, *command: str | Path) -> str:
        """Runs a command that must succeed; returns standard output."""
        done = subprocess.run(
            command, check=False, cwd=self.cwd, env=self.environ, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_wheel_contains_exactly_the_package_and_its_data(wheel: Path) -> None:
    names = {name for name in ZipFile(wheel).namelist() if not name.endswith("/")}

    tops = {name.partition("/")[0] for name in names}
    assert tops == {"authapi", wheel.name.rpartition("-py3")[0] + ".dist-info"}

    source = {
        path.relative_to(ROOT / "src").as_posix()
        for path in (ROOT / "src" / "authapi").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    migrations = {
        f"authapi/{path.relative_to(ROOT).as_posix()}"
        for path in (ROOT / "alembic").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert {name for name in names if name.startswith("authapi/")} == source | migrations

    assert {"authapi/py.typed", "authapi/alembic/env.py"} <= names
    assert any(re.fullmatch(r"authapi/alembic/versions/\w+\.py", name) for name in names)
    for suffix in (".js", ".css"):
        assert any(name.startswith("authapi/web/docs/") and name.endswith(suffix) for name in names)


def test_no_link_of_the_description_leads_nowhere(wheel: Path) -> None:
    description = release.description_of(wheel)
    text = re.sub(r"^```.*?^```$", "", description, flags=re.MULTILINE | re.DOTALL)
    links = re.findall(r"\]\(([^)]*)\)", text)
    assert all(link.startswith(("https://", "#")) for link in links)
    assert text.startswith("# authapi\n\nauthapi is")
    assert "`docs/settings.md`" in text
    assert text.rstrip().endswith("are in the archive of the sources.")


def test_the_api_has_the_version_of_the_wheel(authapi: Path, place: Place, wheel: Path) -> None:
    document = json.loads(place.run(authapi, "openapi"))
    assert wheel.name.split("-")[1] == document["info"]["version"]


def test_migrations_run_from_the_wheel(authapi: Path, place: Place) -> None:
    head = ScriptDirectory(str(ROOT / "alembic")).get_current_head()
    assert head is not None

    place.run(authapi, "db", "upgrade")

    assert head in place.run(authapi, "db", "current")
    place.run(authapi, "db", "check")
    assert list(place.cwd.iterdir()) == []


def test_pytest_loads_the_plugin_of_the_wheel(wheel: Path, tmp_path: Path) -> None:
    site, folder = tmp_path / "site", tmp_path / "shop"
    pip(Path(sys.executable), "install", "--no-deps", "--no-index", "--target", site, wheel)
    folder.mkdir()
    write_files(folder)
    place = (
        f"import authapi\ndef test_place():\n    assert authapi.__file__.startswith({str(site)!r})"
    )
    (folder / "test_place.py").write_text(place)
    assert outcome(run_pytest(folder, environment={"PYTHONPATH": str(site)})) == "7 passed"


def test_fresh_installation_serves_registration_login_and_logout(
    authapi: Path, place: Place
) -> None:
    port = free_port()
    base_url = f"http://127.0.0.1:{port}"
    serve = (str(authapi), "serve", "--port", str(port))
    account = {"email": "stranger@example.com", "password": "correct horse battery staple"}

    with (
        ServeProcess(
            ["sh", "-c", 'cd "$0" && exec "$@"', str(place.cwd), *serve],
            place.environ,
            place.folder,
        ) as process,
        httpx.Client(base_url=base_url, trust_env=False) as client,
    ):
        process.wait_ready(f"{base_url}/health/ready", timeout=START_UP)

        assert client.post("/register", json=account).status_code == 201
        login = client.post("/login", json={**account, "strategy": "token"})
        assert login.status_code == 200
        bearer = {"Authorization": f"Bearer {login.json()['access_token']}"}

        me = client.get("/me", headers=bearer)
        assert me.status_code == 200
        assert me.json()["email"] == account["email"]
        assert client.post("/logout", headers=bearer).status_code == 204
        assert client.get("/me", headers=bearer).status_code == 401

        assert process.terminate() == 0
        assert base_url in process.output()
    assert list(place.cwd.iterdir()) == []
