"""Markdown tables."""

from collections.abc import Iterable, Sequence

Cell = str | float | int | None


def table(head: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    """Returns a table with names in the first column and numbers in the others."""
    lines = [list(head), ["---", *["---:"] * (len(head) - 1)]]
    lines += [[_text(cell) for cell in row] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _text(cell: Cell) -> str:
    if cell is None:
        return "-"
    if isinstance(cell, str):
        return cell.replace("|", "\\|")
    if isinstance(cell, int) or cell >= 1000:
        return f"{cell:,.0f}"
    return f"{cell:.2f}" if cell < 10 else f"{cell:.1f}"
