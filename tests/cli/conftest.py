"""Runs commands as real processes."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.servers.forked import Forking

Result = subprocess.CompletedProcess[str]
Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, forking: Forking) -> Run:
    """Runs `authapi` with arguments, settings as keyword arguments, and text on standard input."""

    def run_authapi(*arguments: str, text: str = "", **settings: str) -> Result:
        environment = {"PATH": os.environ["PATH"], "AUTHAPI_DATA_DIR": str(tmp_path / "data")}
        environment |= {f"AUTHAPI_{name.upper()}": value for name, value in settings.items()}
        return forking.run(arguments, environment, tmp_path, text)

    return run_authapi


def failed_with_one_line(result: Result) -> str:
    """Returns the error line of a failed command, its only output, with the hint if it has one."""
    assert result.returncode == 1, result
    assert result.stdout == ""
    line, *hints = result.stderr.splitlines()
    assert line.startswith("authapi: ")
    assert len(hints) <= 1
    assert all(hint.startswith("hint: ") for hint in hints)
    return ": ".join((line, *(hint.removeprefix("hint: ") for hint in hints)))
