"""The outermost middleware: it handles requests before all other middleware does.

It also protects against servers that parse the body of an upgrade request as the next request. For
a request with `Upgrade`, and for CONNECT, uvicorn with httptools ignores the length of the body and
parses the body as the next request of the connection (Kludex/uvicorn #2722). The application can
only close the connection after its response. `authapi.HTTPProtocol` reads the body and does not
need this.
"""

import logging
from collections.abc import Awaitable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from authapi.web.middleware import public_documents
from authapi.web.middleware.link_secrets import redact_link_secret
from authapi.web.server.limits import PROTOCOL_KEY

_log = logging.getLogger("authapi")

_CLOSE = (b"connection", b"close")
_UNSAFE = "uvicorn.protocols.http.httptools_impl"


class PreprocessingMiddleware:
    """Redacts link secrets, opens public documents to all origins, and closes unsafe connections.

    `publishes` tells whether the application has public documents (`public_documents`); `prefix` is
    the path of authapi.

    Middleware that the application adds later, and Starlette's `ServerErrorMiddleware`, wrap
    `RequestMiddleware`. This class wraps all of them.
    """

    def __init__(self, app: ASGIApp, *, publishes: bool = False, prefix: str = "") -> None:
        self.app = app
        self._prefix = prefix
        self._publishes = publishes
        self._has_checked_server = False

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        # Returns the awaitable of the application: a coroutine here would cost every request.
        if scope["type"] == "http":
            if scope["query_string"]:
                redact_link_secret(scope, self._prefix)
            if not is_read_by_http_protocol(scope):
                send = self._with_unsafe_server(scope, send)
            if (
                self._publishes
                and public_documents.PREFIX in scope["path"]
                and public_documents.is_public(scope, self._prefix)
            ):
                scope, send = public_documents.allow_all_origins(scope, send)
        return self.app(scope, receive, send)

    def _with_unsafe_server(self, scope: Scope, send: Send) -> Send:
        if not self._has_checked_server:
            self._has_checked_server = True
            warn_about_server(send)
        return with_connection_close(send) if may_lose_body(scope) else send


def is_read_by_http_protocol(scope: Scope) -> bool:
    """Whether the server runs `authapi.HTTPProtocol`, which has read this request."""
    return PROTOCOL_KEY in scope.get("extensions", ())


def may_lose_body(scope: Scope) -> bool:
    """Whether an unsafe server may parse the body of this request as the next request."""
    return scope["method"] == "CONNECT" or any(name == b"upgrade" for name, _ in scope["headers"])


def with_connection_close(send: Send) -> Send:
    """Returns a `send` that adds `Connection: close` to the response."""

    async def send_and_close(message: Message) -> None:
        if message["type"] == "http.response.start":
            others = [
                pair for pair in message.get("headers", ()) if pair[0].lower() != b"connection"
            ]
            message = {**message, "headers": [*others, _CLOSE]}
        await send(message)

    return send_and_close


def warn_about_server(send: Send) -> None:
    """Logs a warning if `send` is from uvicorn's own protocol, which is unsafe."""
    # `send` is a method of uvicorn's object. Other servers and tests pass other callables.
    if type(getattr(send, "__self__", None)).__module__ == _UNSAFE:
        _log.warning(
            "uvicorn treats trailers as headers, does not limit the size of headers, and parses "
            "the body of a request with Upgrade as the next request: start it with "
            "--http authapi:HTTPProtocol (docs/proxies.md)"
        )
