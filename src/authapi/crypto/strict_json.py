"""JSON from strangers, read in exactly one way or not at all.

The standard reader lets the last of two equal names win, accepts NaN and 1e400, and raises
RecursionError on deep nesting: each has been a way to make two parsers disagree, or a server fall
over. This reader follows I-JSON (RFC 7493) where it is stricter than RFC 8259.
"""

import json
import math
import re
from typing import NoReturn

# Never goes back over what it has read, and takes a string that does not end as well: else each
# quote in it would be tried as a beginning, which is quadratic.
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_BRACKET = re.compile(rb"[\[\]{}]")


def loads(data: bytes, *, max_depth: int = 20) -> object:
    """The value that `data` spells.

    `max_depth` bounds how deep arrays and objects may nest. Raises ValueError for anything that is
    not UTF-8 without a byte order mark, names a member twice, holds a lone surrogate or NUL in a
    string, a number that is not finite, or an integer of more digits than Python converts.
    """
    _check_depth(data, max_depth)
    text = data.decode("utf-8")
    try:
        value = json.loads(
            text,
            object_pairs_hook=_object,
            parse_constant=_refuse_constant,
            parse_float=_finite_float,
        )
    except RecursionError:
        raise ValueError("nested too deep") from None
    if b"\\u" in data:
        # UTF-8 decoding has refused raw surrogates and the reader raw control characters: only an
        # escape can have brought one in.
        _check_strings(value)
    return value


def _check_depth(data: bytes, max_depth: int) -> None:
    if data.count(b"[") + data.count(b"{") <= max_depth:
        return
    depth = 0
    for bracket in _BRACKET.findall(_STRING.sub(b"", data)):
        depth += 1 if bracket in b"[{" else -1
        if depth > max_depth:
            raise ValueError("nested too deep")


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("duplicate member")
    return members


def _refuse_constant(_: str) -> NoReturn:
    raise ValueError("not a JSON number")


def _finite_float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("number out of range")
    return number


def _check_strings(value: object) -> None:
    if isinstance(value, str):
        if "\0" in value or any("\ud800" <= char <= "\udfff" for char in value):
            raise ValueError("NUL or lone surrogate")
    elif isinstance(value, dict):
        for name, member in value.items():
            _check_strings(name)
            _check_strings(member)
    elif isinstance(value, list):
        for item in value:
            _check_strings(item)
