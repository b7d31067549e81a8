"""Shows on standard error how far a command is."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Self

from authapi.cli.terminal.texts import printable

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

_LINE_INTERVAL = 10.0
"""Seconds between two lines where there is no terminal."""


class Progress:
    """Shows one bar for each step of a command on a terminal; else a line every ten seconds.

    Standard output stays as it is. Use it in a `with` statement, which removes the bars at its end.
    """

    def __init__(self) -> None:
        self._tasks: dict[str, TaskID] = {}
        self._next_line_at = monotonic() + _LINE_INTERVAL
        self._bars = _bars()

    def __enter__(self) -> Self:
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bars is not None:
            self._bars.stop()

    def show(self, step: str, done: int, total: int | None = None) -> None:
        """Shows that `done` of `total` are done of this step. Without a total, it is not known."""
        if self._bars is not None:
            if step not in self._tasks:
                self._tasks[step] = self._bars.add_task(step, total=total)
            self._bars.update(self._tasks[step], completed=done, total=total)
        elif sys.stderr is not None and monotonic() >= self._next_line_at:
            self._next_line_at = monotonic() + _LINE_INTERVAL
            of_total = "" if total is None else f" of {total:,}"
            print(f"{step}: {done:,}{of_total}", file=sys.stderr, flush=True)

    def show_rows(self, table: str, count: int) -> None:
        """Shows how many rows of a table are deleted."""
        self.show(f"{table} deleted", count)

    def print(self, line: str) -> None:
        """Prints a line on standard error, above the bars."""
        if self._bars is not None:
            self._bars.console.print(printable(line), soft_wrap=True)
        else:
            print(printable(line), file=sys.stderr)


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Shows on a terminal that a command is at work on something whose end is not known."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.text import Text

    with Console(stderr=True).status(Text(what)):
        yield


def _bars() -> "Bars | None":
    # None if the process was started with standard error closed.
    if sys.stderr is None or not sys.stderr.isatty():
        return None
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        ProgressColumn,
        SpinnerColumn,
        Task,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as Bars
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text("" if speed is None else f"{speed:,.0f}/s")

    return Bars(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True, highlight=False, markup=False, emoji=False),
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
