"""The options of `authapi serve`, with and without typer."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from authapi.cli import commands
from authapi.cli.serving import serve as service
from tests.cli.conftest import Run
from tests.cli.processes import environment_in
from tests.servers.process import free_port

Options = dict[str, object]


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Options]:
    """The options of each service that was started."""
    found: list[Options] = []
    monkeypatch.setattr(service, "serve", lambda **options: found.append(options))
    return found


def run_main(monkeypatch: pytest.MonkeyPatch, arguments: Sequence[str]) -> int | str | None:
    """Runs `authapi serve` here; returns its exit code."""
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    monkeypatch.setattr(sys, "argv", ["authapi", "serve", *arguments])
    try:
        commands.main()
    except SystemExit as end:
        return end.code
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    return 0


@pytest.mark.parametrize(
    ("arguments", "host", "port", "workers"),
    [
        ([], None, None, None),
        (["--port", "0"], None, 0, None),
        (["--port=65535", "--host", "::1"], "::1", 65535, None),
        (["--host=0.0.0.0", "--workers", "64"], "0.0.0.0", None, 64),
        (["--port", "1", "--port", "2"], None, 2, None),
        (["--host", "a b"], "a b", None, None),
        (["--host=a=b"], "a=b", None, None),
    ],
)
def test_plain_options_mean_what_they_mean_to_typer(
    arguments: Sequence[str],
    host: str | None,
    port: int | None,
    workers: int | None,
    served: list[Options],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected: Options = {"host": host, "port": port, "workers": workers}
    assert commands._plain_options(arguments) is not None
    assert run_main(monkeypatch, arguments) == 0
    monkeypatch.setattr(commands, "_plain_options", lambda _: None)
    assert run_main(monkeypatch, arguments) == 0
    assert served == [expected, expected]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--port", "65536"],
        ["--port", "-1"],
        ["--port", "80a"],
        ["--port"],
        ["--port="],
        ["--workers", "0"],
        ["--workers", "65"],
        ["--prot", "80"],
        ["80"],
        ["port", "80"],
    ],
)
def test_typer_refuses_wrong_options(
    arguments: Sequence[str], served: list[Options], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert commands._plain_options(arguments) is None
    assert run_main(monkeypatch, arguments) == 2
    assert served == []


def test_help_and_errors_name_the_options(run: Run) -> None:
    shown = run("serve", "--help").stdout
    for option in ("--host", "--port", "--workers"):
        assert option in shown
    refused = run("serve", "--prot", "80")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "--port" in refused.stderr


def test_output_that_nobody_reads_ends_the_start(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "authapi", "serve", "--port", str(free_port())]
    done = subprocess.run(
        command,
        env=environment_in(tmp_path),
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=60,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")
