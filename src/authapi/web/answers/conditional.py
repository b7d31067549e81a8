"""Entity tags and conditional requests (RFC 9110, sections 8.8.3 and 13.1).

Starlette has entity tags for files only, and no If-Match.

A route that reads a resource answers with `conditional_response`, and declares `READ_RESPONSES` and
`IF_NONE_MATCH`. A route that changes it passes `staleness_check` to the service, and declares
`CHANGE_RESPONSES` and `IF_MATCH`.
"""

import hashlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from authapi.domain.user import User
from authapi.strategies.base import read_header
from authapi.web.answers.descriptions import request_header, response_header
from authapi.web.media_types import JSON

REVALIDATE = "private, no-cache"
"""The Cache-Control of an account: only the client may store it, and must ask before each use."""

_ETAG = response_header("ETag", "For If-Match and If-None-Match.", required=True)
_READ_ONLY_ETAG = response_header("ETag", "For If-None-Match.", required=True)
_UNCHANGED = {"description": "Unchanged"}
READ_RESPONSES: dict[int | str, dict[str, Any]] = {200: _ETAG, 304: _UNCHANGED | _ETAG}
CHANGE_RESPONSES: dict[int | str, dict[str, Any]] = {200: _ETAG}
READ_ONLY_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: _READ_ONLY_ETAG,
    304: _UNCHANGED | _READ_ONLY_ETAG,
}
"""As `READ_RESPONSES`, of a resource that no request can change."""
IF_NONE_MATCH = request_header("If-None-Match", "An ETag; 304 if it is current.")
IF_MATCH = request_header("If-Match", "An ETag; 412 if it is out of date.")

_ELEMENT = re.compile(r'[ \t]*+(?:(W/)?("[!#-~\x80-\xff]*"))?[ \t]*+(?:,|\Z)')
"""An element of a list of entity tags, which may be empty (RFC 9110, sections 5.6.1 and 8.8.3).
Possessive quantifiers prevent backtracking over long runs of blanks."""


@dataclass(frozen=True, slots=True)
class Representation:
    """The body of a resource, with its media type and entity tag."""

    body: bytes
    etag: str
    media_type: str = JSON
    _fields: tuple[tuple[bytes, bytes], ...] = field(init=False, repr=False, compare=False)
    """The headers of a response besides the first two, which are encoded once."""

    def __post_init__(self) -> None:
        response = Response(self.body, media_type=self.media_type)
        object.__setattr__(self, "_fields", tuple(response.raw_headers))

    @classmethod
    def of(cls, body: bytes, *, media_type: str = JSON) -> "Representation":
        """Returns the representation with this body."""
        return cls(body, etag_of(body), media_type)

    def response(self, *, cache_control: str) -> Response:
        """Returns a response with the body and its entity tag."""
        first = ((b"etag", self.etag.encode()), (b"cache-control", cache_control.encode()))
        return _Prepared(self.body, (*first, *self._fields))


class _Prepared(Response):
    """A response with headers that are encoded already."""

    def __init__(self, body: bytes, headers: Iterable[tuple[bytes, bytes]]) -> None:
        # The constructor of `Response` would encode them again, which takes as long as the gate of
        # a known caller.
        self.status_code, self.background = 200, None
        self.body, self.raw_headers = body, list(headers)


def conditional_response(
    request: Request, current: Representation, *, cache_control: str
) -> Response:
    """Returns a response with `current`, or 304 without a body if If-None-Match matches its tag."""
    if matches(read_header(request, b"if-none-match"), current.etag, weak=True):
        headers = {"etag": current.etag, "cache-control": cache_control}
        return Response(status_code=304, headers=headers)
    return current.response(cache_control=cache_control)


def staleness_check(
    request: Request, represent: Callable[[User], Representation]
) -> Callable[[User], bool]:
    """Returns a function that says whether the client has seen another version of an account.

    It compares If-Match with the tag of the account, as `represent` represents it. A request
    without If-Match accepts every version.
    """
    if_match = read_header(request, b"if-match")

    def is_stale(user: User) -> bool:
        return if_match is not None and not matches(if_match, represent(user).etag, weak=False)

    return is_stale


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
