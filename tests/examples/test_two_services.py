"""Runs the example of two services as its README describes, and compares the output."""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.process import ServeProcess, free_port
from tests.test_readme import blocks, comparable, steps

ROOT = Path(__file__).parents[2]
README = (ROOT / "examples" / "two_services" / "README.md").read_text(encoding="utf-8")
DONE = "<done>"
STARTED = {"authapi", "uvicorn"}


def commands() -> Iterator[tuple[str, str]]:
    """The commands of README with their documented output."""
    for block in blocks("console", README):
        yield from steps(block)


def program_of(command: str) -> str:
    """Returns the program of a command, after its variable assignments."""
    return next(Path(word).name for word in shlex.split(command) if "=" not in word)


@pytest.fixture
def started(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Starts both services as in README; maps the addresses in README to the real ones."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    for name in STARTED:
        (tmp_path / ".venv" / "bin" / name).symlink_to(Path(sys.executable).parent / name)
    ports = {"8000": str(free_port()), "8001": str(free_port())}
    hosts = {f"http://127.0.0.1:{old}": f"http://127.0.0.1:{new}" for old, new in ports.items()}
    issuer, orders = hosts.values()
    given = {
        "PATH": os.environ["PATH"],
        "AUTHAPI_PORT": ports["8000"],
        "ORDERS_ISSUER": issuer,
    }
    serve, uvicorn = [c for c, _ in commands() if program_of(c) in STARTED]
    with ServeProcess(_in(tmp_path, serve), given, tmp_path) as first:
        first.wait_ready(f"{issuer}/health/ready", timeout=40)
        second = _in(tmp_path, uvicorn.replace("8001", ports["8001"]))
        with ServeProcess(second, given, tmp_path) as next_:
            next_.wait_ready(f"{orders}/health/live", timeout=40)
            yield hosts


def test_readme_commands_print_the_documented_output(
    started: dict[str, str], tmp_path: Path
) -> None:
    walked = [(c, printed) for c, printed in commands() if program_of(c) not in STARTED]
    assert len(walked) == 18
    script = "".join(f"{command}\necho '{DONE}'\n" for command, _ in walked)
    for address, actual in started.items():
        script = script.replace(address, actual)
    bash = shutil.which("bash")
    assert bash
    done = subprocess.run(
        [bash, "-eu"],
        input=script,
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    told = done.stdout
    for address, actual in started.items():
        told = told.replace(actual, address)
    answers = told.split(DONE)
    for (command, printed), answer in zip(walked, answers, strict=False):
        assert comparable(answer) == comparable(printed), command


def _in(folder: Path, command: str) -> list[str]:
    # `exec`, so that the process is the service and not a shell.
    return ["bash", "-c", f"cd {folder}; {command.replace('.venv/', 'exec .venv/', 1)}"]
