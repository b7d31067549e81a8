"""Lists on several pages, such as those of devices and tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from starlette.requests import Request

T = TypeVar("T")

SIZE = 10
"""The items on one page."""
_MAX_DIGITS = 4


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A part of a list."""

    items: Sequence[T]
    newer: int
    """The number of the page before this one; 0 without one."""
    older: int
    """The number of the page after this one; 0 without one."""


def page_of(
    request: Request, items: Sequence[T], *, name: str = "page", size: int = SIZE
) -> Page[T]:
    """Returns the page of `items` that the address names, or else the nearest one that exists.

    `name` is that of the parameter, and `size` the items on one page.
    """
    text = request.query_params.get(name, "")
    is_number = 0 < len(text) <= _MAX_DIGITS and text.isascii() and text.isdigit()
    last = max(-(-len(items) // size), 1)
    number = min(max(int(text) if is_number else 1, 1), last)
    first = (number - 1) * size
    older = number + 1 if number < last else 0
    return Page(items[first : first + size], number - 1, older)
