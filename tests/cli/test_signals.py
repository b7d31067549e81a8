"""Termination signals: at any moment of the start, and with any inherited signal mask."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.processes import environment_in, run_python
from tests.servers.process import ServeProcess, free_port

# Functions that are wrapped to send the signal first, as if it arrived at that moment.
_STEPS = {
    "settings": ("authapi.cli.serving.serve", "load_settings"),
    "listening": ("authapi.cli.serving.serve", "_listen"),
    "migrations": ("authapi.cli.serving.serve", "prepare"),
    "keys": ("authapi.cli.serving.serve", "_open_keys"),
    "report": ("authapi.cli.serving.serve", "_report_start"),
    "event-loop": ("uvicorn.server", "asyncio_run"),
    "handlers": ("uvicorn.server.Server", "capture_signals"),
    "loading": ("uvicorn.config.Config", "load"),
    "lifespan": ("authapi.services.Services", "start"),
}
_WORKER_STEPS = {
    "supervisor": ("uvicorn.supervisors.multiprocess.Multiprocess", "__init__"),
    "workers": ("uvicorn.supervisors.multiprocess.Multiprocess", "init_processes"),
    "processes": ("uvicorn.supervisors.multiprocess.Process", "start"),
}
_PROGRAM = """
import functools, importlib, os, signal, sys

path, name = {step!r}
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
from authapi.cli.commands import main
sys.argv = ["authapi", "serve", *{arguments!r}]
main()
"""


def interrupt(
    step: tuple[str, str], folder: Path, *arguments: str, **variables: str
) -> tuple[int, str]:
    """Starts a service that gets SIGTERM at this step; returns its exit code and output."""
    environment = environment_in(
        folder, AUTHAPI_METRICS_PORT=str(free_port()), TMPDIR=str(folder), **variables
    )
    program = _PROGRAM.format(step=step, arguments=["--port", str(free_port()), *arguments])
    done = run_python("-c", program, folder=folder, environment=environment)
    return done.returncode, done.stdout + done.stderr


_HANDLER_CHANGES = ("handlers", "event-loop")
"""Steps at which the signal handlers are replaced."""


@pytest.mark.slow
@pytest.mark.parametrize(
    "step",
    [
        pytest.param(one, marks=() if one in _HANDLER_CHANGES else pytest.mark.slow)
        for one in _STEPS
    ],
)
def test_sigterm_at_any_moment_of_the_start_stops_the_service(step: str, tmp_path: Path) -> None:
    code, output = interrupt(_STEPS[step], tmp_path)
    assert "the signal is sent" in output
    assert (code, "Traceback" in output) == (0, False), output


@pytest.mark.slow
@pytest.mark.parametrize("step", _WORKER_STEPS)
def test_sigterm_at_any_moment_of_the_start_stops_workers(step: str, tmp_path: Path) -> None:
    code, output = interrupt(_WORKER_STEPS[step], tmp_path, "--workers", "2")
    assert "the signal is sent" in output
    assert (code, "Traceback" in output) == (0, False), output
    assert list(tmp_path.glob("authapi-metrics-*")) == [], "the files of the metrics are removed"


@pytest.mark.slow
def test_shutdown_delay_does_not_lose_an_early_sigterm(tmp_path: Path) -> None:
    for step in ("handlers", "lifespan"):
        code, output = interrupt(_STEPS[step], tmp_path, AUTHAPI_SHUTDOWN_DELAY="0.2")
        assert code == 0, output


_BLOCKED = """
import os, signal, sys

signals = {signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM}
for number in signals:
    # A shell ignores SIGINT and SIGQUIT in the jobs that it starts in the background.
    signal.signal(number, signal.SIG_DFL)
signal.pthread_sigmask(signal.SIG_BLOCK, signals)
print("blocked", flush=True)
os.execv(sys.executable, [sys.executable, "-m", "authapi", *sys.argv[1:]])
"""


def serve_blocked(folder: Path, port: int, *arguments: str) -> ServeProcess:
    """Starts a service from a process that has blocked the signals."""
    command = [sys.executable, "-c", _BLOCKED, "serve", "--port", str(port), *arguments]
    return ServeProcess(command, environment_in(folder), folder)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_blocked_by_the_parent_stops_the_service(
    number: signal.Signals, tmp_path: Path
) -> None:
    port = free_port()
    with serve_blocked(tmp_path, port) as service:
        service.wait_ready(f"http://127.0.0.1:{port}/health/ready", 30)
        os.kill(service.pid, number)
        assert service.wait(15) in (0, 130), service.output()


def children_and_masks(pid: int) -> tuple[int, set[int]]:
    """The number of child processes, and the blocked termination signals of all."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return len(children), {_mask_of(it) & _termination_bits() for it in (pid, *map(int, children))}


@pytest.mark.slow
def test_signal_blocked_by_the_parent_stops_workers(tmp_path: Path) -> None:
    port = free_port()
    with serve_blocked(tmp_path, port, "--workers", "2") as service:
        service.wait_ready(f"http://127.0.0.1:{port}/health/ready", 30)
        # Two workers, and the resource tracker of multiprocessing. One of them may still be between
        # fork and exec, where Python blocks all signals.
        deadline = time.monotonic() + 20
        while (found := children_and_masks(service.pid)) != (3, {0}):
            assert time.monotonic() < deadline, found
            time.sleep(0.05)
        assert service.terminate() == 0, service.output()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_signal_blocked_by_the_parent_ends_a_waiting_command(
    number: signal.Signals, tmp_path: Path
) -> None:
    waiting = subprocess.Popen(
        [sys.executable, "-c", _BLOCKED, "users", "import", "-"],
        env=environment_in(tmp_path),
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


def test_ignored_signal_stays_ignored(tmp_path: Path) -> None:
    program = (
        "import atexit, signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "atexit.register(lambda: print(signal.getsignal(signal.SIGHUP) is signal.SIG_IGN))\n"
        "from authapi.cli.commands import main; sys.argv = ['authapi', 'db', 'current']; main()"
    )
    done = run_python("-c", program, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "True"


def _mask_of(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("SigBlk:")).split()[1], 16)


def _termination_bits() -> int:
    ending = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)
    return sum(1 << (number - 1) for number in ending)
