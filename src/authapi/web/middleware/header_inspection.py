"""Finds headers that are too large, ambiguous or unsafe, before other code reads them.

`Upgrade` is unsafe on some servers. For a request with it, and for CONNECT, uvicorn with httptools
ignores the length of the body and parses the body as the next request of the connection
(Kludex/uvicorn #2722). The application can only close the connection after its response.
`authapi.HTTPProtocol` reads the body and does not need this.
"""

import logging
import re
from collections.abc import Mapping, Sequence

from starlette._utils import get_route_path
from starlette.types import Message, Scope, Send

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
from authapi.web.server.limits import PROTOCOL_KEY

_log = logging.getLogger("authapi")

_CLOSE = (b"connection", b"close")
_UNSAFE = "uvicorn.protocols.http.httptools_impl"
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
        # Uvicorn's own protocol parses such a body as the next request.
        # Own routes only: the importing application decides about its routes.
        if scope["type"] != "http" or _is_read_by_http_protocol(scope):
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


class UpgradeProtection:
    """Closes connections on which a server may parse a body as the next request."""

    def __init__(self) -> None:
        self.knows_server = False
        """Whether a request has come, which shows the server of the application."""
        self._has_checked_server = False

    def protect(self, scope: Scope, send: Send) -> Send:
        """Returns the `send` for an HTTP request."""
        self.knows_server = True
        if _is_read_by_http_protocol(scope):
            return send
        if not self._has_checked_server:
            self._has_checked_server = True
            _warn_about_server(send)
        return _with_connection_close(send) if _may_lose_body(scope) else send


def _is_read_by_http_protocol(scope: Scope) -> bool:
    """Whether the server runs `authapi.HTTPProtocol`, which has read this request."""
    return PROTOCOL_KEY in (scope.get("extensions") or ())


def _may_lose_body(scope: Scope) -> bool:
    for name, _ in scope["headers"]:  # `any` with a generator would cost every request more
        if name == b"upgrade":
            return True
    return bool(scope["method"] == "CONNECT")


def _with_connection_close(send: Send) -> Send:
    async def send_and_close(message: Message) -> None:
        if message["type"] == "http.response.start":
            others = [
                pair for pair in message.get("headers", ()) if pair[0].lower() != b"connection"
            ]
            message = {**message, "headers": [*others, _CLOSE]}
        await send(message)

    return send_and_close


def _warn_about_server(send: Send) -> None:
    # `send` is a method of uvicorn's object. Other servers and tests pass other callables.
    if type(getattr(send, "__self__", None)).__module__ == _UNSAFE:
        _log.warning(
            "uvicorn treats trailers as headers, does not limit the size of headers, and parses "
            "the body of a request with Upgrade as the next request: start it with "
            "--http authapi:HTTPProtocol (docs/proxies.md)"
        )
