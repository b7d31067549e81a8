"""`authapi` in a new interpreter, for tests of its start, its signals and its environment."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.servers.process import ServeProcess

ACCOUNT = {"email": "alice@example.com", "password": "correct horse battery staple"}
Result = subprocess.CompletedProcess[str]


_HEEDING = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.executable, [sys.executable, "-m", "authapi", *sys.argv[1:]])
"""


def heeding_interrupts(*arguments: str) -> list[str]:
    """Returns the command that runs `authapi` so that SIGINT ends it.

    A job in the background of a shell ignores SIGINT, and so do the processes that it starts.
    """
    return [sys.executable, "-c", _HEEDING, *arguments]


def environment_in(folder: Path, **variables: str) -> dict[str, str]:
    """Returns an environment with only `PATH`, a data folder below `folder`, and `variables`."""
    return {
        "PATH": os.environ["PATH"],
        "AUTHAPI_DATA_DIR": str(folder / "data"),
        **variables,
    }


def run_python(
    *arguments: str, folder: Path, environment: Mapping[str, str] | None = None
) -> Result:
    """Runs `python` with these arguments in `folder`, and returns its result also if it fails.

    The environment is that of `environment_in` unless given.
    """
    return subprocess.run(
        [sys.executable, *arguments],
        env=dict(environment_in(folder) if environment is None else environment),
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def serve(folder: Path, port: int, *arguments: str, **variables: str) -> ServeProcess:
    """Starts `authapi serve` on this port, with its data below `folder`."""
    command = [sys.executable, "-m", "authapi", "serve", "--port", str(port), *arguments]
    return ServeProcess(command, environment_in(folder, **variables), folder)
