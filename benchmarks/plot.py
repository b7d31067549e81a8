"""Writes a bar chart as SVG, without a dependency."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby

WIDTH = 860
_LEFT = 300
_RIGHT = 190
_ROW = 20
_HEAD = 26
_COLOURS = (
    *("#8a8f98", "#1668b8", "#c2571a", "#7a4fa3", "#2f7d4f", "#a83248", "#b08a00", "#0e8f9e"),
)


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: length, labels before and after it, group and colour."""

    group: str
    label: str
    value: float
    note: str
    colour: str
    """Bars with the same value have the same colour."""


def bars(rows: Sequence[Bar], *, title: str) -> str:
    """Returns the chart, with a heading for each sequence of bars of one group."""
    longest = max((bar.value for bar in rows), default=1.0)
    scale = (WIDTH - _LEFT - _RIGHT) / longest
    families = list(dict.fromkeys(bar.colour for bar in rows))
    parts = [_text(16, 28, title, size=16, weight="bold")]
    y = 44
    for group, members in groupby(rows, key=lambda bar: bar.group):
        y += _HEAD
        parts.append(_text(16, y - 8, group, weight="bold"))
        for bar in members:
            colour = _COLOURS[families.index(bar.colour) % len(_COLOURS)]
            length = max(bar.value * scale, 1)
            parts.append(_text(_LEFT - 8, y + 13, bar.label, anchor="end"))
            parts.append(
                f'<rect x="{_LEFT}" y="{y + 3}" width="{length:.1f}" height="{_ROW - 6}" '
                f'fill="{colour}"/>'
            )
            behind = f"{bar.value:,.0f}" + (f"  ({bar.note})" if bar.note else "")
            parts.append(_text(_LEFT + length + 6, y + 13, behind))
            y += _ROW
    height = y + 16
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'width="{WIDTH}" height="{height}" font-family="sans-serif" role="img">\n'
        f"<title>{escape(title)}</title>\n"
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>\n' + "\n".join(parts) + "\n"
        "</svg>\n"
    )


def _text(
    x: float, y: float, text: str, *, size: int = 12, weight: str = "normal", anchor: str = "start"
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" font-weight="{weight}" '
        f'text-anchor="{anchor}" fill="#1c1f24">{escape(text)}</text>'
    )
