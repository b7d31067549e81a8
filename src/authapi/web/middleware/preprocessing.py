"""The outermost middleware: it handles requests before all other middleware does."""

from collections.abc import Awaitable

from starlette.types import ASGIApp, Receive, Scope, Send

from authapi.web.middleware import public_documents
from authapi.web.middleware.link_secrets import redact_link_secret
from authapi.web.middleware.upgrades import (
    is_read_by_http_protocol,
    may_lose_body,
    warn_about_server,
    with_connection_close,
)


class PreprocessingMiddleware:
    """Redacts link secrets, opens public documents to all origins, and closes unsafe connections.

    `publishes` tells whether the application has public documents (`public_documents`).

    Middleware that the application adds later, and Starlette's `ServerErrorMiddleware`, wrap
    `RequestMiddleware`. This class wraps all of them.
    """

    def __init__(self, app: ASGIApp, *, publishes: bool = False) -> None:
        self.app = app
        self._publishes = publishes
        self._has_checked_server = False

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        # Returns the awaitable of the application: a coroutine here would cost every request.
        if scope["type"] == "http":
            if scope["query_string"]:
                redact_link_secret(scope)
            if not is_read_by_http_protocol(scope):
                send = self._with_unsafe_server(scope, send)
            if (
                self._publishes
                and public_documents.PREFIX in scope["path"]
                and public_documents.is_public(scope)
            ):
                scope, send = public_documents.allow_all_origins(scope, send)
        return self.app(scope, receive, send)

    def _with_unsafe_server(self, scope: Scope, send: Send) -> Send:
        if not self._has_checked_server:
            self._has_checked_server = True
            warn_about_server(send)
        return with_connection_close(send) if may_lose_body(scope) else send
