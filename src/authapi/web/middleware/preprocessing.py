"""The outermost middleware: it handles requests before all other middleware does."""

from collections.abc import Awaitable, Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from authapi.web.middleware import public_documents
from authapi.web.middleware.header_inspection import UpgradeProtection
from authapi.web.middleware.link_secrets import redact_link_secret
from authapi.web.middleware.request import RequestMiddleware


class PreprocessingMiddleware:
    """Redacts link secrets, opens public documents to all origins, and closes unsafe connections.

    `publishes` tells whether the application has public documents (`public_documents`); `prefix` is
    the path of authapi. `check_start` is called after the lifespan of the application has started;
    its error fails the start. `inner` gets the requests that its `needs_no_layer` accepts; None if
    the layers between the two may do something.

    Middleware that the application adds later, and Starlette's `ServerErrorMiddleware`, wrap
    `RequestMiddleware`. This class wraps all of them.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        publishes: bool = False,
        prefix: str = "",
        check_start: Callable[[], None],
        inner: RequestMiddleware | None = None,
    ) -> None:
        self.app = app
        self._prefix = prefix
        self._check_start = check_start
        self._publishes = publishes
        self._inner = inner
        self._server = UpgradeProtection()

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        # Returns the awaitable of the application: a coroutine here would cost every request.
        if scope["type"] == "http":
            if scope["query_string"]:
                redact_link_secret(scope, self._prefix)
            send = self._server.protect(scope, send)
            if (
                self._publishes
                and public_documents.PREFIX in scope["path"]
                and public_documents.is_public(scope, self._prefix)
            ):
                scope, send = public_documents.allow_all_origins(scope, send)
            elif self._inner is not None and self._inner.needs_no_layer(scope):
                # `ServerErrorMiddleware` alone costs two coroutines for each message.
                return self._inner(scope, receive, send)
        elif scope["type"] == "lifespan":
            send = self._with_check_of_start(send)
        return self.app(scope, receive, send)

    def _with_check_of_start(self, send: Send) -> Send:
        async def send_checked(message: Message) -> None:
            if message["type"] == "lifespan.startup.complete":
                # An error here fails the start: Starlette reports it to the server.
                self._check_start()
            await send(message)

        return send_checked
