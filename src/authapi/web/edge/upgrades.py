"""What an ASGI application can do about a server that loses the body of a request.

uvicorn with httptools forgets how long the body of a request is that asks for an upgrade, and takes
it for the next request of the connection (Kludex/uvicorn #2722). CONNECT is read in the same way.
The application can only end the connection with its answer. `authapi.HTTPProtocol` needs none of
this: it reads the body.
"""

import logging

from starlette.types import Message, Scope, Send

from authapi.web.server.limits import PROTOCOL_KEY

_log = logging.getLogger("authapi")

_CLOSE = (b"connection", b"close")
_UNSAFE = "uvicorn.protocols.http.httptools_impl"


def is_read_by_us(scope: Scope) -> bool:
    """Whether `authapi.HTTPProtocol` has read this request."""
    return PROTOCOL_KEY in scope.get("extensions", ())


def may_lose_body(scope: Scope) -> bool:
    """Whether a server that knows no better takes the body of this request for another request."""
    return scope["method"] == "CONNECT" or any(name == b"upgrade" for name, _ in scope["headers"])


def closing(send: Send) -> Send:
    """`send`, with an answer that ends the connection."""

    async def send_and_close(message: Message) -> None:
        if message["type"] == "http.response.start":
            kept = [pair for pair in message.get("headers", ()) if pair[0].lower() != b"connection"]
            message = {**message, "headers": [*kept, _CLOSE]}
        await send(message)

    return send_and_close


def warn_of(send: Send) -> None:
    """Log a warning if `send` belongs to a server that needs `authapi.HTTPProtocol`."""
    # uvicorn hands out a method of its own object; another server, or a test, does not.
    if type(getattr(send, "__self__", None)).__module__ == _UNSAFE:
        _log.warning(
            "this uvicorn takes trailers for headers, reads headers of any length, and takes the "
            "body of a request with Upgrade for a request: start it with "
            "--http authapi:HTTPProtocol (docs/proxies.md)"
        )
