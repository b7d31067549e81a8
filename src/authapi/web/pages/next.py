"""Where a sign-in may lead.

The address comes from a link, which another person may have made. So it leads to this host, or to
an origin that the operator names (OWASP ASVS 5.0, 3.7.2). Other values are ignored.
"""

import re
from collections.abc import Iterable

MAX_LENGTH = 2000
"""Characters of an address."""

_ALLOWED = re.compile(r"[!-\[\]-~]+")
"""Printable ASCII without space and backslash, which browsers read as a slash."""
_ENCODED_SLASH = re.compile(r"%(2f|5c)", re.IGNORECASE)
"""A server behind this one may decode it, and read the path as another host."""
_END_OF_PATH = re.compile(r"[?#]")


def safe_next(text: str | None, origins: Iterable[str]) -> str | None:
    """Returns `text` if a sign-in may lead there; None otherwise.

    It is a path of this host, or a URL of one of `origins`.
    """
    if not text or len(text) > MAX_LENGTH or not _ALLOWED.fullmatch(text):
        return None
    if text.startswith("/"):
        return text if _is_own_path(text) else None
    for origin in origins:
        rest = text.removeprefix(origin)
        # The character behind the origin ends the host and the port.
        if rest != text and (not rest or rest[0] in "/?#"):
            return text
    return None


def _is_own_path(text: str) -> bool:
    path = _END_OF_PATH.split(text, maxsplit=1)[0]
    # A URL that begins with two slashes names a host. Dot segments could bring them to the front.
    return "//" not in path and not _ENCODED_SLASH.search(path)
