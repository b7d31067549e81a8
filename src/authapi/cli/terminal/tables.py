"""Prints results: tables for people, lines with tabs and JSON for programs."""

import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from authapi.cli.terminal.texts import as_json as to_json
from authapi.cli.terminal.texts import as_text, printable

if TYPE_CHECKING:
    from rich.console import Console

Row = Mapping[str, object]

_GAP = 2
"""Columns of the terminal between two columns of a table."""
_NOTHING = as_text(None)
_KEYS = frozenset({"id", "kid", "email", "app_secret"})
_MAX_SQUEEZE = 1.5
"""How much wider than the terminal a table may be; beyond, each row is a block of its own."""
_MAX_KEY = 40
"""Columns of the terminal that such a value can have at the cost of others."""


@dataclass(frozen=True, slots=True)
class Continuation:
    """How a list goes on that has ended early."""

    option: str
    """The option that continues it, such as `--after`."""
    value: str
    """The value of the option; also the member `next` of the JSON."""
    total: int | None = None
    """The length of the list, if it was counted."""
    is_later: bool = False
    """Whether entries precede these: an earlier list ended before them."""


def print_list(
    rows: Sequence[Row],
    *,
    empty: str,
    as_json: bool,
    plain: bool = False,
    more: Continuation | None = None,
    items: Sequence[Row] | None = None,
) -> None:
    """Prints a table, or a JSON object with `items` and `next`.

    `empty` is the sentence for a list without rows. It and the notice of a list that has ended
    early are on standard error. `items` are the members of the JSON, by default the rows.
    """
    if as_json:
        shown = list(rows if items is None else items)
        print(to_json({"items": shown, "next": None if more is None else more.value}))
        return
    print_rows(rows, plain=plain)
    if not rows:
        print(empty, file=sys.stderr)
    if more is not None:
        goes_on = printable(f"{more.option} {shlex.quote(more.value)}")
        print(f"{_part(len(rows), more)}, next: {goes_on}", file=sys.stderr)


def _part(count: int, more: Continuation) -> str:
    if more.is_later:
        return f"{count:,} more"
    return f"the first {count:,}" if more.total is None else f"{count:,} of {more.total:,}"


def print_rows(rows: Sequence[Row], *, plain: bool = False) -> None:
    """Prints a table: on a terminal with rich, otherwise aligned; with `plain`, between tabs."""
    if not rows:
        return
    names = list(rows[0])
    texts = [[as_text(value) for value in row.values()] for row in rows]
    if plain:
        for line in (names, *texts):
            print("\t".join(line))
    elif is_terminal():
        _print_table(names, texts)
    else:
        _print_aligned([names, *texts])


def print_one(row: Row, *, as_json: bool) -> None:
    """Prints one `name  value` line per member, or a JSON object."""
    if as_json:
        print(to_json(row))
    elif is_terminal():
        _print_members((name, as_text(value)) for name, value in row.items())
    else:
        _print_aligned([[name, as_text(value)] for name, value in row.items()])


def print_styled(*parts: tuple[str, str], wraps: bool = True) -> None:
    """Prints texts with their styles, which a terminal shows; without one, plain text.

    Unless it `wraps`, the terminal breaks a long line, so that it can be copied in one piece.
    """
    if not is_terminal():
        print("".join(text for text, _ in parts))
        return
    from rich.text import Text

    console().print(Text.assemble(*parts), soft_wrap=not wraps)


def is_terminal() -> bool:
    """Returns whether standard output is a terminal."""
    # None if the process was started with standard output closed.
    return sys.stdout is not None and sys.stdout.isatty()


def console() -> "Console":
    """Returns a console of rich on standard output, without markup in what it prints."""
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False)


def _widths(lines: Sequence[Sequence[str]]) -> Sequence[int]:
    from rich.cells import cell_len  # a small module: a terminal shows some characters wider

    return [max(cell_len(line[i]) for line in lines) for i in range(len(lines[0]))]


def _print_aligned(lines: Sequence[Sequence[str]]) -> None:
    from rich.cells import set_cell_size

    widths = _widths(lines)
    for line in lines:
        cells = (set_cell_size(text, width) for text, width in zip(line, widths, strict=True))
        print("  ".join(cells).rstrip())


def _print_table(names: Sequence[str], texts: Sequence[Sequence[str]]) -> None:
    from rich.table import Table
    from rich.text import Text

    target = console()
    widths = _widths([names, *texts])
    shown: Sequence[int] = range(len(names))
    if sum(widths) + _GAP * (len(names) - 1) > target.width:
        # In a narrow terminal, the columns with values get the place of those without.
        shown = [i for i in shown if any(line[i] != _NOTHING for line in texts)]
    if sum(widths[i] + _GAP for i in shown) > _MAX_SQUEEZE * target.width:
        for number, line in enumerate(texts):
            print(end="\n" if number else "")
            _print_members([(names[i], line[i]) for i in shown])
        return
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    for i in shown:
        # What is copied as an argument must be in one piece.
        is_key = names[i] in _KEYS or names[i].endswith("_id")
        table.add_column(
            names[i].replace("_", " "),
            no_wrap=is_key,
            min_width=min(widths[i], _MAX_KEY) if is_key else None,
            overflow="fold",
        )
    for line in texts:
        table.add_row(*(Text(line[i], "dim" if line[i] == _NOTHING else "") for i in shown))
    target.print(table)


def _print_members(members: Iterable[tuple[str, str]]) -> None:
    from rich.cells import cell_len
    from rich.text import Text

    rows, target = list(members), console()
    width = max((cell_len(name) for name, _ in rows), default=0) + _GAP
    for name, text in rows:
        # The terminal breaks a long value, so that it can be copied in one piece.
        shown = Text.assemble((name, "bold"), " " * (width - cell_len(name)), text)
        target.print(shown, soft_wrap=True)
