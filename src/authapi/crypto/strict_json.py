"""Strict parsing of untrusted JSON.

Python's parser accepts duplicate names, NaN and 1e400, and raises RecursionError for deep nesting.
Attackers have used each of these to make two parsers disagree or to crash a server. This parser
applies the rules of I-JSON (RFC 7493) that are stricter than RFC 8259. orjson and msgspec are fast,
but accept duplicate names.
"""

import json
import math
import re
from typing import NoReturn

# Linear: the parts are possessive, and begin with different bytes. The group is not: Python 3.11
# before 3.11.5 accepts other texts then (cpython gh-106052). The pattern also matches an
# unterminated string: otherwise each quote in one would be tried as the start of a string, which
# takes quadratic time.
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*"?', re.DOTALL)
_BRACKET = re.compile(rb"[\[\]{}]")


def loads(data: bytes, *, max_depth: int = 20) -> object:
    """Returns the value of the JSON text `data`.

    `max_depth` is the maximum nesting of arrays and objects. Raises ValueError if `data` is not
    valid JSON in UTF-8 without a byte order mark, is nested deeper, or contains a duplicate member
    name, a lone surrogate or NUL in a string, a number that is not finite, or an integer with more
    digits than Python converts.
    """
    _check_depth(data, max_depth)
    text = data.decode("utf-8")
    try:
        value: object = _decoder.decode(text)
    except RecursionError:
        raise ValueError("nested too deep") from None
    if b"\\u" in data:
        # UTF-8 decoding rejects raw surrogates, and the parser rejects raw control characters: only
        # an escape sequence can produce one.
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


def _unique_members(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("duplicate member")
    return members


def _reject_constant(_: str) -> NoReturn:
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


_decoder = json.JSONDecoder(
    object_pairs_hook=_unique_members, parse_constant=_reject_constant, parse_float=_finite_float
)
