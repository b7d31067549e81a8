"""Progress on a terminal, and as lines without one."""

import io
import sys
from collections.abc import Callable

import pytest

from authapi.cli.terminal import progress as module
from authapi.cli.terminal.progress import Progress, waiting


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time of the lines, which a test changes."""
    at = [100.0]
    monkeypatch.setattr(module, "monotonic", lambda: at[0])
    return at


def on_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Makes standard error a terminal, and returns it."""
    shown = Terminal()
    monkeypatch.setattr(sys, "stderr", shown)
    for name, value in {"COLUMNS": "100", "TERM": "xterm"}.items():
        monkeypatch.setenv(name, value)
    return shown


def test_a_terminal_shows_a_bar_for_each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_terminal(monkeypatch)
    with Progress() as progress:
        progress.show("lines checked", 1200)
        progress.show("lines checked", 1700, 1700)
        progress.show("lines imported", 500, 1700)
        progress.print("line 3: [red]wrong[/red]\x1b[2J")
    shown = terminal.getvalue()
    assert "lines checked" in shown
    assert "1700/1700" in shown
    assert " 500/1700" in shown
    assert "line 3: [red]wrong[/red]?[2J\n" in shown
    assert "\x1b[2J" not in shown
    assert shown.endswith("\x1b[2K")  # the bars are removed


def test_without_a_terminal_there_is_a_line_every_ten_seconds(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with Progress() as progress:
        for second in range(25):
            clock[0] = 100.0 + second
            progress.show("lines imported", 1000 * second, 20_000)
        clock[0] += 10
        progress.show("rows", 7)
        progress.print("line 3\x1b")
    assert capsys.readouterr().err.splitlines() == [
        "lines imported: 10,000 of 20,000",
        "lines imported: 20,000 of 20,000",
        "rows: 7",
        "line 3?",
    ]


@pytest.mark.parametrize("stderr", [io.StringIO, lambda: None])
def test_a_short_command_shows_nothing_without_a_terminal(
    clock: list[float], monkeypatch: pytest.MonkeyPatch, stderr: Callable[[], io.StringIO | None]
) -> None:
    monkeypatch.setattr(sys, "stderr", shown := stderr())
    with Progress() as progress, waiting("measuring"):
        progress.show("lines", 1000)
    assert shown is None or shown.getvalue() == ""


def test_waiting_is_shown_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_terminal(monkeypatch)
    with waiting("measuring [x]"):
        pass
    assert "measuring [x]" in terminal.getvalue()
