"""The console blocks of a page, run as a reader would, one command after the other."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.test_readme import blocks, steps

_BETWEEN = "--- the next command ---"
_WRITTEN = "http://127.0.0.1:8000"


def environment(folder: Path) -> dict[str, str]:
    """That of a service and of commands beside it, in `folder`."""
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
    """Each command of `page`, what it says that this prints, and what it printed.

    `service` is where it runs that the page has at port 8000. With `may_fail` the page shows
    commands that are refused; nothing else may go wrong, or say so.
    """
    found = [step for text in blocks("console", page) for step in steps(text)]
    script = "".join(f"{command}\nprintf '\\n{_BETWEEN}\\n'\n" for command, _ in found)
    done = subprocess.run(
        ["bash", "-u" if may_fail else "-eu"],
        check=False,
        cwd=folder,
        env={**environment(folder), **(variables or {})},
        input=script.replace(_WRITTEN, service),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert not may_fail or done.stderr == ""
    printed = done.stdout.replace(service, _WRITTEN).split(_BETWEEN)
    assert len(printed) == len(found) + 1
    return [(*step, output) for step, output in zip(found, printed, strict=False)]
