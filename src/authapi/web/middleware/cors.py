"""Starlette's CORS middleware, with problem documents for refused preflights."""

from collections.abc import Mapping

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from authapi.errors import PreflightRefused
from authapi.web.problems import error_document


class ProblemCORSMiddleware(CORSMiddleware):
    """Answers a refused preflight with a problem document.

    Starlette decides what is allowed and sets the headers.
    """

    def preflight_response(self, request_headers: Headers) -> Response:
        """Returns the response to a preflight."""
        response = super().preflight_response(request_headers)
        return response if response.status_code < 400 else _PreflightRefusal(response.headers)


class _PreflightRefusal(Response):
    # Builds its body when it is sent: only then the scope, with the request id, is available.

    def __init__(self, headers: Mapping[str, str]) -> None:
        super().__init__(status_code=400)
        of_body = ("content-length", "content-type")
        self._cors_headers = {name: value for name, value in headers.items() if name not in of_body}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = error_document(PreflightRefused(), scope)
        response.headers.update(self._cors_headers)
        await response(scope, receive, send)


def without_cors_headers(send: Send) -> Send:
    """Returns a `send` that removes the headers of another CORS middleware from the response."""

    async def send_without_cors_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = message.get("headers", ())
            kept = [pair for pair in headers if not pair[0].lower().startswith(b"access-control-")]
            message = {**message, "headers": kept}
        await send(message)

    return send_without_cors_headers
