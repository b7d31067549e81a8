"""Commands as real processes."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Result = subprocess.CompletedProcess[str]
Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs `authapi` with arguments, settings as keyword arguments, and text on standard input."""

    def run_authapi(*arguments: str, text: str = "", **settings: str) -> Result:
        environment = {"PATH": os.environ["PATH"], "AUTHAPI_DATA_DIR": str(tmp_path / "data")}
        environment |= {f"AUTHAPI_{name.upper()}": value for name, value in settings.items()}
        return subprocess.run(
            [sys.executable, "-m", "authapi", *arguments],
            check=False,
            cwd=tmp_path,
            env=environment,
            input=text,
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            timeout=60,
        )

    return run_authapi


def failed_with_one_line(result: Result) -> str:
    """The one line that a failed command says, on standard error."""
    assert result.returncode == 1, result
    assert result.stdout == ""
    [line] = result.stderr.splitlines()
    assert line.startswith("authapi: ")
    return line
