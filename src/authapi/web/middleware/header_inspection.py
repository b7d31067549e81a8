"""Finds headers that are too large, ambiguous or unsafe, before other code reads them."""

import re
from collections.abc import Mapping, Sequence

from starlette._utils import get_route_path
from starlette.types import Scope

from authapi.errors import (
    DuplicateHeader,
    HeadersTooLarge,
    HTTPSRequired,
    MalformedRequest,
    NotFound,
    Refusal,
)
from authapi.settings import EdgeSettings
from authapi.web.middleware.client import arrived_over_http, trusted_networks
from authapi.web.middleware.preprocessing import is_read_by_http_protocol

_CHECKED = frozenset(
    {
        *(b"authorization", b"cookie", b"host", b"origin"),
        *(b"content-length", b"content-type", b"transfer-encoding", b"upgrade"),
    }
)
"""The header fields that are checked."""
_READ_BY_GATES = frozenset({b"authorization", b"cookie", b"host", b"origin"})
"""The fields that strategies and the protection against cross-site requests read."""
_REPEATABLE = frozenset({b"cookie", b"upgrade"})
"""Checked fields that may have several lines (RFC 9113, section 8.2.3; RFC 9110, section 7.8)."""


class HeaderInspection:
    """The checks of header fields under `settings`.

    A proxy in front may read another one of two values. Requests for routes of authapi are checked
    as a whole (`inspect`). For a route of the application, a gate checks the fields that it depends
    on (`check_for_gate`). `own_paths` match the paths of authapi's own routes.
    """

    def __init__(self, settings: EdgeSettings, own_paths: Sequence[re.Pattern[str]] = ()) -> None:
        self._max_header_bytes = settings.max_header_bytes
        self._max_credential_bytes = settings.max_credential_bytes
        self._https = settings.cookie_secure
        self._trusted = trusted_networks(settings)
        self._own_paths = own_paths

    def check_for_gate(self, scope: Scope) -> None:
        """Checks what a gate depends on.

        Raises HeadersTooLarge for a credential above the limit, DuplicateHeader for a repeated
        field, MalformedRequest without a Host header, and HTTPSRequired for plain HTTP where the
        cookie requires HTTPS.
        """
        seen = set()
        for name, value in scope["headers"]:
            if name in _READ_BY_GATES:
                if len(value) > self._max_credential_bytes:
                    raise HeadersTooLarge
                if name in seen and name not in _REPEATABLE:
                    raise DuplicateHeader
                seen.add(name)
        refusal = self._refusal_of_connection(scope, has_host=b"host" in seen)
        if refusal is not None:
            raise refusal

    def inspect(self, scope: Scope) -> tuple[Refusal | None, bool]:
        """Returns the refusal of the headers, or None; and whether the request has a body."""
        total, seen = 0, dict[bytes, bytes]()
        for name, value in scope["headers"]:
            total += len(name) + len(value)
            if name in _CHECKED:
                if len(value) > self._max_credential_bytes:
                    return HeadersTooLarge(), True
                if name in seen and name not in _REPEATABLE:
                    # A proxy in front may use the other one of the two values.
                    return DuplicateHeader(), True
                if name == b"transfer-encoding" and value.lower() != b"chunked":
                    # RFC 9112, section 6.1: with another coding, the body may end elsewhere.
                    return MalformedRequest("The only supported transfer coding is chunked"), True
                seen[name] = value
        has_body = b"transfer-encoding" in seen or seen.get(b"content-length", b"0") != b"0"
        if total > self._max_header_bytes:
            return HeadersTooLarge(), has_body
        return self._refusal(scope, seen, has_body=has_body), has_body

    def _refusal(
        self, scope: Scope, seen: Mapping[bytes, bytes], *, has_body: bool
    ) -> Refusal | None:
        refusal = self._refusal_of_connection(scope, has_host=b"host" in seen)
        if refusal is not None:
            return refusal
        raw_path = scope.get("raw_path")
        if raw_path and b"%" in raw_path and self._has_encoded_slash(scope, raw_path):
            return NotFound()
        if has_body and b"upgrade" in seen and self._may_lose_body(scope):
            return MalformedRequest("A request with a body must not have the Upgrade header")
        return None

    def _refusal_of_connection(self, scope: Scope, *, has_host: bool) -> Refusal | None:
        if not has_host and scope.get("http_version") == "1.1":
            return MalformedRequest("The Host header is missing")  # RFC 9112, section 3.2
        if self._https and arrived_over_http(scope, self._trusted):
            return HTTPSRequired()
        return None

    def _may_lose_body(self, scope: Scope) -> bool:
        # Uvicorn's own protocol parses such a body as the next request (`preprocessing`).
        # Own routes only: the importing application decides about its routes.
        if scope["type"] != "http" or is_read_by_http_protocol(scope):
            return False
        path = get_route_path(scope)
        return any(pattern.match(path) for pattern in self._own_paths)

    def _has_encoded_slash(self, scope: Scope, raw_path: bytes) -> bool:
        # The server decodes %2F before routing, but a proxy that protects a prefix such as /me/ may
        # not. With and without encoding these are different paths (RFC 3986, section 2.2). Routes
        # of authapi have no encoded slash; routes of the importing application may.
        if b"%2f" not in raw_path.lower():
            return False
        path = get_route_path(scope)
        return any(pattern.match(path) for pattern in self._own_paths)
