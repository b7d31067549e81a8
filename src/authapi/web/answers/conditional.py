"""Entity tags and conditional requests (RFC 9110, sections 8.8.3 and 13.1)."""

import hashlib
import re

from starlette.requests import Request
from starlette.responses import Response

from authapi.strategies.base import read_header

_ELEMENT = re.compile(r'[ \t]*+(?:(W/)?("[!#-~\x80-\xff]*"))?[ \t]*+(?:,|\Z)')
"""An element of a list of entity tags, which may be empty (RFC 9110, sections 5.6.1 and 8.8.3).
Possessive quantifiers prevent backtracking over long runs of blanks."""


def etag_of(body: bytes) -> str:
    """Returns the strong entity tag of `body`, which depends on its bytes only."""
    return f'"{hashlib.sha256(body).hexdigest()[:32]}"'


def matches(header: str | None, etag: str, *, weak: bool) -> bool:
    """Whether `header`, the value of If-Match or If-None-Match, matches the strong tag `etag`.

    `header` is `*` or a list of entity tags; any other value matches nothing. With `weak`, the
    comparison ignores `W/`, as If-None-Match requires. Without, no weak tag matches, as If-Match
    requires (RFC 9110, section 8.8.3.2).
    """
    if header is None:
        return False
    if header.strip(" \t") == "*":
        return True
    is_match, position = False, 0
    while position < len(header):
        element = _ELEMENT.match(header, position)
        if element is None:
            return False
        position = element.end()
        if element[2] == etag and (weak or element[1] is None):
            is_match = True
    return is_match


def conditional_json(
    request: Request, body: bytes, *, cache_control: str, etag: str | None = None
) -> Response:
    """Returns `body` with its entity tag, or 304 without a body if If-None-Match matches.

    `etag` is the tag of `body` unless it is given.
    """
    etag = etag or etag_of(body)
    headers = {"etag": etag, "cache-control": cache_control}
    if matches(read_header(request, b"if-none-match"), etag, weak=True):
        return Response(status_code=304, headers=headers)
    return Response(body, media_type="application/json", headers=headers)
