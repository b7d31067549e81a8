"""SIGTERM while `authapi serve` starts: whenever it arrives, the service ends."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers.process import free_port

# What is replaced by the same that first sends the signal, as if it arrived in that moment.
_PLACES = {
    "settings": ("authapi.cli.serve", "load_settings"),
    "listening": ("authapi.cli.serve", "_listen"),
    "migrations": ("authapi.cli.serve", "prepare"),
    "keys": ("authapi.cli.serve", "_open_keys"),
    "announcement": ("authapi.cli.serve", "_announce"),
    "event-loop": ("uvicorn.server", "asyncio_run"),
    "handlers": ("uvicorn.server.Server", "capture_signals"),
    "loading": ("uvicorn.config.Config", "load"),
    "lifespan": ("authapi.services.Services", "start"),
}
_WORKERS = {
    "supervisor": ("uvicorn.supervisors.multiprocess.Multiprocess", "__init__"),
    "workers": ("uvicorn.supervisors.multiprocess.Multiprocess", "init_processes"),
    "processes": ("uvicorn.supervisors.multiprocess.Process", "start"),
}
_PROGRAM = """
import functools, importlib, os, signal, sys

path, name = {place!r}
try:
    owner = importlib.import_module(path)
except ImportError:
    module, _, kind = path.rpartition(".")
    owner = getattr(importlib.import_module(module), kind)
original, own = getattr(owner, name), os.getpid()

@functools.wraps(original)
def interrupted(*arguments, **options):
    setattr(owner, name, original)
    print("the signal is sent", flush=True)
    os.kill(own, signal.SIGTERM)
    return original(*arguments, **options)

setattr(owner, name, interrupted)
from authapi.cli import main
sys.argv = ["authapi", "serve", *{arguments!r}]
main()
"""


def served(place: tuple[str, str], folder: Path, *arguments: str, **more: str) -> tuple[int, str]:
    """The exit code of the service that gets the signal there, and what it wrote."""
    environment = {
        "PATH": os.environ["PATH"],
        "AUTHAPI_DATA_DIR": str(folder / "served"),
        "AUTHAPI_METRICS_PORT": str(free_port()),
        "TMPDIR": str(folder),
        **more,
    }
    program = _PROGRAM.format(place=place, arguments=["--port", str(free_port()), *arguments])
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return done.returncode, done.stdout + done.stderr


_SHORT = ("handlers", "event-loop")
"""Those in which the handlers change hands."""


@pytest.mark.parametrize(
    "place",
    [pytest.param(one, marks=() if one in _SHORT else pytest.mark.slow) for one in _PLACES],
)
def test_the_service_ends(place: str, tmp_path: Path) -> None:
    code, output = served(_PLACES[place], tmp_path)
    assert "the signal is sent" in output
    assert (code, "Traceback" in output) == (0, False), output


@pytest.mark.slow
@pytest.mark.parametrize("place", _WORKERS)
def test_several_workers_end(place: str, tmp_path: Path) -> None:
    code, output = served(_WORKERS[place], tmp_path, "--workers", "2")
    assert "the signal is sent" in output
    assert (code, "Traceback" in output) == (0, False), output
    assert list(tmp_path.glob("authapi-metrics-*")) == [], "what they counted is removed"


@pytest.mark.slow
def test_a_delay_does_not_swallow_it(tmp_path: Path) -> None:
    for place in ("handlers", "lifespan"):
        code, output = served(_PLACES[place], tmp_path, AUTHAPI_SHUTDOWN_DELAY="0.2")
        assert code == 0, output
