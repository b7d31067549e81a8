"""Runs the commands of the README of an example, and compares their output."""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.test_readme import blocks, comparable, steps

ROOT = Path(__file__).parents[2]
STARTED = {"authapi", "uvicorn"}
PROGRAMS = STARTED | {"alembic"}
_DONE = "<done>"


def commands(readme: str) -> Iterator[tuple[str, str]]:
    """The commands of `readme` with their documented output."""
    for block in blocks("console", readme):
        yield from steps(block)


def program_of(command: str) -> str:
    """Returns the program of a command, after its variable assignments."""
    return next(Path(word).name for word in shlex.split(command) if "=" not in word)


def prepare(folder: Path) -> None:
    """Links the examples and the programs into `folder`, as in a checkout."""
    (folder / "examples").symlink_to(ROOT / "examples")
    (folder / ".venv" / "bin").mkdir(parents=True)
    for name in PROGRAMS:
        (folder / ".venv" / "bin" / name).symlink_to(Path(sys.executable).parent / name)


def in_folder(folder: Path, command: str) -> list[str]:
    """Returns the words of a shell that runs `command` in `folder`."""
    # `exec`, so that the process is the service and not a shell.
    return ["bash", "-c", f"cd {folder}; {command.replace('.venv/', 'exec .venv/', 1)}"]


def check_output(
    walked: Sequence[tuple[str, str]], addresses: Mapping[str, str], folder: Path
) -> None:
    """Runs the commands in one shell; checks that each prints the documented output.

    `addresses` maps the addresses in the README to those of the running services.
    """
    script = "".join(f"{command}\necho '{_DONE}'\n" for command, _ in walked)
    for address, actual in addresses.items():
        script = script.replace(address, actual)
    bash = shutil.which("bash")
    assert bash
    done = subprocess.run(
        [bash, "-eu"],
        input=script,
        cwd=folder,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    told = done.stdout
    for address, actual in addresses.items():
        told = told.replace(actual, address)
    for (command, printed), answer in zip(walked, told.split(_DONE), strict=False):
        assert comparable(answer) == comparable(printed), command
