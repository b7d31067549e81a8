"""Checks whether a password is common (OWASP ASVS 6.2.4), without network access.

The list is package data: the first 40 bits of the SHA-256 of each password, sorted, for a binary
search. The format is compact and does not disclose the passwords. One in three million other
passwords is taken for a common one. `tools/build_common_passwords.py` names the sources.
"""

import hashlib
import importlib.resources
import unicodedata
from functools import cache

_WIDTH = 5
"""Bytes of an entry."""
_MAX_PERIOD = 8
_KEY_ROWS = (
    "0123456789012345678901234567890",
    "98765432109876543210987654321",
    "abcdefghijklmnopqrstuvwxyz",
    "qwertyuiopasdfghjklzxcvbnm",
    "1qaz2wsx3edc4rfv5tgb6yhn7ujm",
)


def fold(password: str) -> str:
    """NFKC and case folding: passwords are compared without regard to case and width."""
    return unicodedata.normalize("NFKC", password).casefold()


def digest_of(password: str) -> bytes:
    """The entry of a password in the list."""
    return hashlib.sha256(fold(password).encode("utf-8", "surrogatepass")).digest()[:_WIDTH]


def is_common(password: str) -> bool:
    """Whether the password is on the list, repeats a short string, or is a run of adjacent keys."""
    folded = fold(password)
    return _is_repetition(folded) or _is_run(folded) or _is_listed(password)


def _is_repetition(text: str) -> bool:
    # A text of period n equals itself shifted by n, also if the last repetition is incomplete.
    longest = min(_MAX_PERIOD, len(text) // 2)
    return any(text[period:] == text[:-period] for period in range(1, longest + 1))


def _is_run(text: str) -> bool:
    return any(text in row or text in row[::-1] for row in _KEY_ROWS)


def _is_listed(password: str) -> bool:
    data, digest = _data(), digest_of(password)
    low, high = 0, len(data) // _WIDTH
    while low < high:
        middle = (low + high) // 2
        entry = data[middle * _WIDTH : (middle + 1) * _WIDTH]
        if entry == digest:
            return True
        if entry < digest:
            low = middle + 1
        else:
            high = middle
    return False


@cache
def _data() -> bytes:
    return (importlib.resources.files(__package__) / "common_passwords.bin").read_bytes()
