"""The uvicorn options of all FastAPI stacks, which are those of `authapi serve`."""

import os
from collections.abc import Sequence
from pathlib import Path

from benchmarks.bench import ROOT


def uvicorn(python: Path | str, module: str, port: int) -> Sequence[str]:
    """Returns the command that serves `benchmarks.apps.<module>:app` in one process."""
    return (
        *(os.fspath(python), "-m", "uvicorn", f"benchmarks.apps.{module}:app"),
        *("--app-dir", os.fspath(ROOT), "--port", str(port)),
        *("--http", "httptools", "--loop", "uvloop", "--log-level", "warning"),
        *("--no-access-log", "--no-server-header", "--no-proxy-headers"),
    )
