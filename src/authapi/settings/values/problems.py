"""Says in words what is wrong with the value of a setting, without the value."""

import re
from collections.abc import Callable, Mapping
from datetime import timedelta

from pydantic_core import ErrorDetails

from authapi.domain.monitoring.wording import duration_in_words

_RATE = re.compile(r"second\|minute\|hour\|day")
_DURATION = re.compile(
    r"datetime\.timedelta\((?:0|(?:days=(\d+))?(?:, )?(?:seconds=(\d+))?)\)", re.ASCII
)
_WORDS: Mapping[str, Callable[[Mapping[str, object]], str]] = {
    "int_parsing": lambda _: "must be a whole number",
    "int_from_float": lambda _: "must be a whole number",
    "float_parsing": lambda _: "must be a number",
    "bool_parsing": lambda _: "must be true or false",
    "literal_error": lambda it: f"must be {it['expected']}".replace("'", ""),
    "greater_than": lambda it: f"must be more than {_amount(it['gt'])}",
    "greater_than_equal": lambda it: f"must be at least {_amount(it['ge'])}",
    "less_than_equal": lambda it: f"must be at most {_amount(it['le'])}",
    "string_too_short": lambda _: "must not be empty",
    "string_pattern_mismatch": lambda it: _pattern(str(it["pattern"])),
}


def problem_in_words(error: ErrorDetails) -> str:
    """Returns what the value must be. The context of `error` must not have the value."""
    words = _WORDS.get(error["type"])
    if words is None:
        return error["msg"].removeprefix("Value error, ")
    return words(error.get("ctx", {}))


def _amount(value: object) -> str:
    # pydantic gives a duration as text.
    if duration := _DURATION.fullmatch(str(value)):
        days, seconds = (int(text or 0) for text in duration.groups())
        return duration_in_words(timedelta(days=days, seconds=seconds))
    return f"{value:g}" if isinstance(value, float) else f"{value}"


def _pattern(pattern: str) -> str:
    if _RATE.search(pattern):
        several = ", several of them separated by ;" if ";" in pattern else ""
        return f"must be a rate such as 10/minute or 100/2 hours{several}"
    return f"must match {pattern}"
