"""Runs the console blocks of a page, one command after the other."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.test_readme import blocks, steps

_SEPARATOR = "--- the next command ---"
_DOCUMENTED_URL = "http://127.0.0.1:8000"


def environment(folder: Path) -> dict[str, str]:
    """Returns the environment of a service and of its commands, with data in `folder`."""
    return {
        "PATH": f"{Path(sys.executable).parent}:{os.defpath}",
        "AUTHAPI_DATA_DIR": str(folder / "served"),
    }


def run_page(
    page: str,
    service: str,
    folder: Path,
    *,
    variables: Mapping[str, str] | None = None,
    may_fail: bool = False,
) -> list[tuple[str, str, str]]:
    """Runs the commands of `page`; returns each with its documented and its real output.

    `service` replaces the address in the page, which has port 8000. With `may_fail`, commands may
    fail, but must not print to standard error.
    """
    commands = [step for text in blocks("console", page) for step in steps(text)]
    script = "".join(f"{command}\nprintf '\\n{_SEPARATOR}\\n'\n" for command, _ in commands)
    done = subprocess.run(
        ["bash", "-u" if may_fail else "-eu"],
        check=False,
        cwd=folder,
        env={**environment(folder), **(variables or {})},
        input=script.replace(_DOCUMENTED_URL, service),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert not may_fail or done.stderr == ""
    printed = done.stdout.replace(service, _DOCUMENTED_URL).split(_SEPARATOR)
    assert len(printed) == len(commands) + 1
    return [(*step, output) for step, output in zip(commands, printed, strict=False)]
