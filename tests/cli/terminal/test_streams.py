"""Standard streams that are closed, full, or of an encoding with few characters."""

import io
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from authapi.cli.terminal.streams import is_full, write_utf8
from tests.cli.conftest import Run
from tests.cli.processes import environment_in
from tests.servers.forked import Forking

Redirect = Callable[[str, int, str | None], tuple[int, str, str]]

PASSWORD = "correct horse battery staple"


def shell(folder: Path, command: str, redirect: str, **variables: str) -> tuple[int, str, str]:
    """Runs `authapi` with a redirection of a shell; returns exit code, output and errors."""
    done = subprocess.run(
        ["sh", "-c", f"{shlex.quote(sys.executable)} -m authapi {command} {redirect}"],
        env=environment_in(folder, **variables),
        cwd=folder,
        input=PASSWORD,
        capture_output=True,
        text=True,
        encoding="latin-1",
        check=False,
        timeout=60,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def fork(tmp_path: Path, forking: Forking) -> Redirect:
    """As `shell` in the folder of the test, with a file or None (closed) for a standard stream.

    A new interpreter takes fifty times as long. A forked process has what that would have: None for
    a stream that is closed. One command in each group below runs in a new one.
    """

    def run(command: str, stream: int, file: str | None) -> tuple[int, str, str]:
        path = None if file is None else Path(file)
        done = forking.run(
            shlex.split(command),
            environment_in(tmp_path),
            tmp_path,
            PASSWORD,
            redirected={stream: path},
        )
        return done.returncode, done.stdout, done.stderr

    return run


def test_an_interpreter_with_a_closed_standard_output(tmp_path: Path, fork: Redirect) -> None:
    closed = shell(tmp_path, "stats", ">&-")
    assert closed == shell(tmp_path, "stats", ">/dev/null") == fork("stats", 1, None)
    assert "Traceback" not in closed[2]


@pytest.mark.parametrize(
    "command", ["stats", "doctor", "users export", "events list", "events export"]
)
def test_a_closed_standard_output_takes_nothing(fork: Redirect, command: str) -> None:
    closed = fork(command, 1, None)
    assert closed == fork(command, 1, "/dev/null")
    assert "Traceback" not in closed[2]


def test_notices_do_not_go_to_standard_output_in_place_of_closed_errors(tmp_path: Path) -> None:
    code, out, _ = shell(tmp_path, "users list", "2>&-")
    assert (code, out) == (0, "")  # `No accounts match.` is a notice
    assert shell(tmp_path, "users show a@example.com", "2>&-")[:2] == (1, "")


def test_an_interpreter_with_a_closed_standard_input(tmp_path: Path, fork: Redirect) -> None:
    command = "users import -"
    closed = shell(tmp_path, command, "<&-")
    assert closed == shell(tmp_path, command, "</dev/null") == fork(command, 0, None)
    assert "Traceback" not in closed[2]


@pytest.mark.parametrize(
    "command", ["users create a@example.com", "keys rewrap", "users import -", "verify"]
)
def test_a_closed_standard_input_is_empty(fork: Redirect, command: str) -> None:
    closed = fork(command, 0, None)
    assert closed == fork(command, 0, "/dev/null")
    assert "Traceback" not in closed[2]


def test_a_file_of_the_service_takes_no_number_of_a_closed_stream(tmp_path: Path) -> None:
    program = (
        "import os, sys; from authapi.cli.terminal.streams import prepare_streams\n"
        "prepare_streams(); sys.stdin.read(); print('x'); print('x', file=sys.stderr)\n"
        "numbers = [stream.fileno() for stream in (sys.stdin, sys.stdout, sys.stderr)]\n"
        "assert all(os.get_inheritable(number) for number in numbers)\n"
        "open('numbers', 'w').write(str(numbers))"
    )
    command = f"{shlex.quote(sys.executable)} -c {shlex.quote(program)} <&- >&- 2>&-"
    subprocess.run(["sh", "-c", command], env=dict(os.environ), cwd=tmp_path, check=True)
    assert (tmp_path / "numbers").read_text() == "[0, 1, 2]"


def test_characters_that_the_encoding_lacks_are_escaped(run: Run, tmp_path: Path) -> None:
    names = ["Zoë", "名前🐎"]
    for number, name in enumerate(names):
        create = ("users", "create", f"u{number}@example.com", "--name", name)
        assert run(*create, text=PASSWORD).returncode == 0
    code, out, err = shell(tmp_path, "users list", "", PYTHONIOENCODING="latin-1")
    assert (code, err) == (0, "")
    assert "Zoë" in out
    assert r"\u540d\u524d\U0001f40e" in out
    for encoding in ("latin-1", "euc-kr", "ascii"):
        code, out, err = shell(tmp_path, "users export", "", PYTHONIOENCODING=encoding)
        assert (code, err) == (0, "")
        assert [json.loads(line)["name"] for line in out.splitlines()] == names


def test_an_interpreter_on_a_full_disk(tmp_path: Path, fork: Redirect) -> None:
    done = shell(tmp_path, "config", ">/dev/full")
    assert done == fork("config", 1, "/dev/full")
    assert done == (1, "", "authapi: cannot write: No space left on device\n")


@pytest.mark.parametrize("command", ["config", "users list", "strategies", "openapi", "--help"])
def test_a_full_disk_is_one_line(fork: Redirect, command: str) -> None:
    code, _, err = fork(command, 1, "/dev/full")
    if command == "users list":  # it prints nothing to standard output
        assert (code, err) == (0, "No accounts match.\n")
    else:
        assert (code, err) == (1, "authapi: cannot write: No space left on device\n")


def test_errors_of_named_files_are_no_full_output() -> None:
    assert is_full(OSError(28, "No space left on device"))
    assert not is_full(OSError(28, "No space left on device", "/data/secret"))
    assert not is_full(OSError(2, "No such file"))


def test_a_file_is_utf8_whatever_the_locale_is(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="latin-1"))
    write_utf8()
    sys.stdout.write("名前🐎\n")
    sys.stdout.flush()
    assert written.getvalue().decode() == "名前🐎\n"
