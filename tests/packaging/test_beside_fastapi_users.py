"""authapi and fastapi-users in one environment, with the highest and the lowest versions."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.environments import UV, check, create_environment

pytestmark = pytest.mark.packaging

ROOT = Path(__file__).resolve().parents[2]
BOTH = f"""fastapi-users[sqlalchemy]>=15
fastapi-authapi[postgres,redis,metrics,mail,bcrypt] @ {ROOT.as_uri()}
"""
PROGRAM = """
from fastapi import FastAPI
from fastapi_users import FastAPIUsers
from fastapi_users.db import SQLAlchemyBaseUserTableUUID
from authapi import AuthAPI, Settings, current_user
app = FastAPI()
AuthAPI(Settings(data_dir=".")).install(app)
print(app.openapi()["info"]["title"])
"""


def run(*command: str | Path, text: str = "", folder: Path) -> str:
    done = subprocess.run(
        command,
        check=False,
        cwd=folder,
        input=text,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("resolution", ["highest", "lowest-direct"])
def test_both_resolve_and_install_together(resolution: str, tmp_path: Path) -> None:
    options = ("--quiet", "--no-header", "--no-annotate", "--python-version", "3.11")
    compiled = run(
        *(UV, "pip", "compile", *options, "--resolution", resolution, "-"),
        text=BOTH,
        folder=tmp_path,
    )
    found = dict(re.findall(r"^([a-z0-9-]+)==([0-9.]+)", compiled, re.MULTILINE))
    assert found["sqlalchemy"].startswith("2.0.")
    assert found["fastapi-users"].startswith("15.")
    (tmp_path / "both.txt").write_text(compiled)
    python = create_environment(tmp_path / "venv")
    run(*(UV, "pip", "sync", "--quiet", "--python", python, tmp_path / "both.txt"), folder=tmp_path)
    check(python)
    assert run(python, "-c", PROGRAM, folder=tmp_path) == "FastAPI\n"
