"""Starlette's CORS middleware, with problem documents for refused preflights."""

from collections.abc import Mapping

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

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
