"""Signals that end a process: at any moment of its start, and under any inherited mask."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers.process import ServeProcess, free_port

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


@pytest.mark.slow
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


_BLOCKED = """
import os, signal, sys

signals = {signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM}
signal.pthread_sigmask(signal.SIG_BLOCK, signals)
print("blocked", flush=True)
os.execv(sys.executable, [sys.executable, "-m", "authapi", *sys.argv[1:]])
"""


def blocked(folder: Path, port: int, *arguments: str) -> ServeProcess:
    """The service, started by a process that has blocked the signals."""
    command = [sys.executable, "-c", _BLOCKED, "serve", "--port", str(port), *arguments]
    environment = {"PATH": os.environ["PATH"], "AUTHAPI_DATA_DIR": str(folder / "served")}
    return ServeProcess(command, environment, folder)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_that_was_blocked_when_the_service_began_ends_it(
    number: signal.Signals, tmp_path: Path
) -> None:
    port = free_port()
    with blocked(tmp_path, port) as service:
        service.wait_ready(f"http://127.0.0.1:{port}/health/ready", 30)
        os.kill(service.pid, number)
        assert service.wait(15) in (0, 130), service.output()


@pytest.mark.slow
def test_a_signal_that_was_blocked_ends_several_workers(tmp_path: Path) -> None:
    port = free_port()
    with blocked(tmp_path, port, "--workers", "2") as service:
        service.wait_ready(f"http://127.0.0.1:{port}/health/ready", 30)
        children = Path(f"/proc/{service.pid}/task/{service.pid}/children").read_text().split()
        masks = {_mask_of(pid) & _bits() for pid in (service.pid, *map(int, children))}
        assert (len(children), masks) == (3, {0})  # two, and what tracks their resources
        assert service.terminate() == 0, service.output()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_a_signal_that_was_blocked_ends_a_command_that_waits(
    number: signal.Signals, tmp_path: Path
) -> None:
    waiting = subprocess.Popen(
        [sys.executable, "-c", _BLOCKED, "users", "import", "-"],
        env={"PATH": os.environ["PATH"], "AUTHAPI_DATA_DIR": str(tmp_path / "data")},
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with waiting:
        assert waiting.stdout is not None
        assert waiting.stdout.readline() == b"blocked\n"
        waiting.send_signal(number)
        assert waiting.wait(30) == -number


def test_a_signal_that_is_ignored_stays_ignored(tmp_path: Path) -> None:
    program = (
        "import atexit, signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "atexit.register(lambda: print(signal.getsignal(signal.SIGHUP) is signal.SIG_IGN))\n"
        "from authapi.cli import main; sys.argv = ['authapi', 'db', 'current']; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PATH": os.environ["PATH"], "AUTHAPI_DATA_DIR": str(tmp_path / "data")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.splitlines()[-1] == "True"


def _mask_of(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("SigBlk:")).split()[1], 16)


def _bits() -> int:
    ending = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)
    return sum(1 << (number - 1) for number in ending)
