"""Entity tags and conditional requests (RFC 9110, sections 8.8.3 and 13.1)."""

import hashlib
import re

from starlette.requests import Request
from starlette.responses import Response

from authapi.strategies.base import header

_ELEMENT = re.compile(r'[ \t]*+(?:(W/)?("[!#-~\x80-\xff]*"))?[ \t]*+(?:,|\Z)')
"""One element of a list of entity tags, which may be empty (RFC 9110, sections 5.6.1 and 8.8.3).
The quantifiers of the blanks are possessive: a long row of them is looked at once."""


def etag_of(body: bytes) -> str:
    """A strong entity tag: equal for equal bytes."""
    return f'"{hashlib.sha256(body).hexdigest()[:32]}"'


def matches(header: str | None, etag: str, *, weak: bool) -> bool:
    """Whether `header`, all of If-Match or If-None-Match, names the strong tag `etag`.

    It is `*` alone or a list of entity tags; anything else names none. `weak` compares as
    If-None-Match does, where W/ makes no difference; If-Match matches no weak tag (RFC 9110,
    section 8.8.3.2).
    """
    if header is None:
        return False
    if header.strip(" \t") == "*":
        return True
    found, at = False, 0
    while at < len(header):
        element = _ELEMENT.match(header, at)
        if element is None:
            return False
        at = element.end()
        if element[2] == etag and (weak or element[1] is None):
            found = True
    return found


def cacheable_json(
    request: Request, body: bytes, *, cache_control: str, etag: str | None = None
) -> Response:
    """`body` with its entity tag, or 304 without a body if the client has it already."""
    etag = etag or etag_of(body)
    headers = {"etag": etag, "cache-control": cache_control}
    if matches(header(request, b"if-none-match"), etag, weak=True):
        return Response(status_code=304, headers=headers)
    return Response(body, media_type="application/json", headers=headers)
