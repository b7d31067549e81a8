"""CORS as Starlette does it, but for how a preflight is refused."""

from collections.abc import Mapping

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from authapi.errors import PreflightRefused
from authapi.web.errors import document_for


class ProblemCORSMiddleware(CORSMiddleware):
    """Refuses a preflight with a problem document, as everything else is refused.

    What is allowed, and every header that says so, is Starlette's.
    """

    def preflight_response(self, request_headers: Headers) -> Response:
        """The answer to a preflight; a refusal learns its request id when it is sent."""
        response = super().preflight_response(request_headers)
        return response if response.status_code < 400 else _Refused(response.headers)


class _Refused(Response):
    def __init__(self, headers: Mapping[str, str]) -> None:
        super().__init__(status_code=400)
        body = ("content-length", "content-type")
        self._kept = {name: value for name, value in headers.items() if name not in body}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = document_for(PreflightRefused(), scope)
        response.headers.update(self._kept)
        await response(scope, receive, send)
