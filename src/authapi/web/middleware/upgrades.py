"""Protection against servers that parse the body of an upgrade request as the next request.

For a request with `Upgrade`, and for CONNECT, uvicorn with httptools ignores the length of the body
and parses the body as the next request of the connection (Kludex/uvicorn #2722). The application
can only close the connection after its response. `authapi.HTTPProtocol` reads the body and does not
need this.
"""

import logging

from starlette.types import Message, Scope, Send

from authapi.web.server.limits import PROTOCOL_KEY

_log = logging.getLogger("authapi")

_CLOSE = (b"connection", b"close")
_UNSAFE = "uvicorn.protocols.http.httptools_impl"


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
