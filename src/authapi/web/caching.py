"""Entity tags and conditional requests (RFC 9110, sections 8.8.3 and 13.1)."""

import hashlib

from starlette.requests import Request
from starlette.responses import Response

from authapi.strategies.base import header


def etag_of(body: bytes) -> str:
    """A strong entity tag: equal for equal bytes."""
    return f'"{hashlib.sha256(body).hexdigest()[:32]}"'


def matches(header: str | None, etag: str, *, weak: bool) -> bool:
    """Whether `header`, of If-Match or If-None-Match, names `etag`.

    `weak` compares as If-None-Match does, where W/ makes no difference (RFC 9110, 8.8.3.2).
    """
    if header is None:
        return False
    for candidate in header.split(","):
        tag = candidate.strip()
        if tag == "*" or (tag.removeprefix("W/") if weak else tag) == etag:
            return True
    return False


def cacheable_json(
    request: Request, body: bytes, *, cache_control: str, etag: str | None = None
) -> Response:
    """`body` with its entity tag, or 304 without a body if the client has it already."""
    etag = etag or etag_of(body)
    headers = {"etag": etag, "cache-control": cache_control}
    if matches(header(request, b"if-none-match"), etag, weak=True):
        return Response(status_code=304, headers=headers)
    return Response(body, media_type="application/json", headers=headers)
