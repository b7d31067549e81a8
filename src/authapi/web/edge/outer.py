"""The outer edge: what has to stand outside of every middleware, the application's included."""

from collections.abc import Awaitable

from starlette.types import ASGIApp, Receive, Scope, Send

from authapi.web.edge import public
from authapi.web.edge.link_secrets import hide_secret
from authapi.web.edge.upgrades import closing, is_read_by_us, may_lose_body, warn_of


class OuterEdge:
    """Hides the secrets of links, lets every page read public documents, and closes connections
    whose next bytes are in doubt.

    `publishes` says that the application has public documents (`web.edge.public`).

    What the application adds to its middleware later, and Starlette's own answer to an exception,
    stand outside of the `EdgeMiddleware`, but not of this.
    """

    def __init__(self, app: ASGIApp, *, publishes: bool = False) -> None:
        self.app = app
        self._publishes = publishes
        self._has_looked = False

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        # Hands on the awaitable of the application: a coroutine of its own would cost each request.
        if scope["type"] == "http":
            if scope["query_string"]:
                hide_secret(scope)
            if not is_read_by_us(scope):
                send = self._on_plain_server(scope, send)
            if self._publishes and public.PREFIX in scope["path"] and public.is_public(scope):
                scope, send = public.published(scope, send)
        return self.app(scope, receive, send)

    def _on_plain_server(self, scope: Scope, send: Send) -> Send:
        if not self._has_looked:
            self._has_looked = True
            warn_of(send)
        return closing(send) if may_lose_body(scope) else send
