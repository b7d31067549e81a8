"""Passwords that too many people have (OWASP ASVS 6.2.4), without a network.

The list is package data: 40 bits of the SHA-256 of each, sorted, looked up by bisection. That is
small, shows nobody a list of passwords, and mistakes one good password in three million for a
common one. `tools/build_common_passwords.py` tells its sources.
"""

import hashlib
import importlib.resources
import unicodedata
from functools import cache

_WIDTH = 5
_LONGEST_UNIT = 8
_KEYBOARD = (
    "0123456789012345678901234567890",
    "98765432109876543210987654321",
    "abcdefghijklmnopqrstuvwxyz",
    "qwertyuiopasdfghjklzxcvbnm",
    "1qaz2wsx3edc4rfv5tgb6yhn7ujm",
)


def fold(password: str) -> str:
    """The spelling that passwords are compared in: what differs by case or width is no other."""
    return unicodedata.normalize("NFKC", password).casefold()


def digest_of(password: str) -> bytes:
    """How the list holds a password."""
    return hashlib.sha256(fold(password).encode("utf-8", "surrogatepass")).digest()[:_WIDTH]


def is_common(password: str) -> bool:
    """Whether the password is on the list, repeats one short piece, or runs along the keyboard."""
    folded = fold(password)
    return _is_repetition(folded) or _is_run(folded) or _is_listed(password)


def _is_repetition(text: str) -> bool:
    # Moved along by one piece it still fits upon itself, also where the last piece is cut short.
    longest = min(_LONGEST_UNIT, len(text) // 2)
    return any(text[length:] == text[:-length] for length in range(1, longest + 1))


def _is_run(text: str) -> bool:
    return any(text in row or text in row[::-1] for row in _KEYBOARD)


def _is_listed(password: str) -> bool:
    data, wanted = _data(), digest_of(password)
    low, high = 0, len(data) // _WIDTH
    while low < high:
        middle = (low + high) // 2
        found = data[middle * _WIDTH : (middle + 1) * _WIDTH]
        if found == wanted:
            return True
        if found < wanted:
            low = middle + 1
        else:
            high = middle
    return False


@cache
def _data() -> bytes:
    return (importlib.resources.files(__package__) / "common_passwords.bin").read_bytes()
