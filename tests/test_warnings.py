"""authapi raises no warnings, so applications that turn warnings into errors can run it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import warnings_program
from tests.environments import create_environment, install
from tests.servers.process import ServeProcess, free_port

ROOT = Path(__file__).parents[1]


def passes(python: Path | str, folder: Path) -> None:
    done = subprocess.run(
        [python, warnings_program.__file__], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_importing_authapi_raises_no_warnings(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", "from authapi import AuthAPI"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_modules_and_commands_raise_no_warnings(tmp_path: Path) -> None:
    passes(sys.executable, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_serving_raises_no_warnings(workers: str, tmp_path: Path) -> None:
    port = free_port()
    command = [sys.executable, "-m", "authapi", "serve", "--port", str(port), "--workers", workers]
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONWARNINGS": "error",
        "AUTHAPI_DATA_DIR": str(tmp_path / "data"),
    }
    with ServeProcess(command, environment, tmp_path) as service:
        service.wait_ready(f"http://127.0.0.1:{port}/health/ready", 30)
        assert service.terminate() == 0
        assert "Warning" not in service.output()


def pythons() -> list[str]:
    """Paths of the other supported Python versions on this machine."""
    places = [Path(text) for text in os.get_exec_path()]
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    places += sorted(pyenv.glob("versions/*/bin"))
    found: dict[str, str] = {}
    for minor in range(11, 20):
        for place in places:
            python = place / f"python3.{minor}"
            if minor != sys.version_info.minor and _runs(python, minor):
                found.setdefault(f"3.{minor}", str(python))
    return list(found.values())


def _runs(python: Path, minor: int) -> bool:
    # pyenv has a shim for each version, which fails if that version is not selected.
    if not python.is_file():
        return False
    code = f"import sys, venv, ensurepip; assert sys.version_info[:2] == (3, {minor})"
    return subprocess.run([python, "-c", code], check=False, capture_output=True).returncode == 0


@pytest.mark.packaging
def test_other_python_versions_raise_no_warnings(tmp_path: Path) -> None:
    for number, python in enumerate(pythons()):
        folder = tmp_path / str(number)
        own = create_environment(folder / "venv", python=python)
        install(own, "--require-hashes", "-r", str(ROOT / "requirements" / "run.txt"))
        install(own, "--no-deps", "--no-build-isolation", str(ROOT))
        passes(own, folder)
