"""POST /tokens/leaked: a secret scanner reports tokens of ours that it has found in public.

In the form of GitHub's secret scanning partner programme. The report proves itself by a signature
over its bytes, which is looked at before anything in it is read.
"""

from typing import Annotated

from fastapi import APIRouter, Body, Request
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Message

from authapi.errors import DuplicateHeader, MalformedRequest, ReportNotSigned
from authapi.services.tokens import Leak
from authapi.web.context import context_of
from authapi.web.media_types import JSON, require_media_type
from authapi.web.openapi import problems, request_headers
from authapi.web.routing import AuthAPIRoute, Handler, StrictRequest, has_body
from authapi.web.schemas import LeakFeedback, LeakReport

_IDENTIFIER, _SIGNATURE = "Github-Public-Key-Identifier", "Github-Public-Key-Signature"
_MAX_REPORTS = 500


class SignedRoute(AuthAPIRoute):
    """A route that reads its body only if a scanner that is known here has signed it."""

    def get_route_handler(self) -> Handler:
        handle = super().get_route_handler()

        async def signed(request: Request) -> Response:
            if has_body(request):
                require_media_type(request, JSON)
            try:
                body = await StrictRequest(request.scope, request.receive).body()
            except ClientDisconnect:
                raise MalformedRequest from None
            context_of(request).runtime.services.leaks.require_signed(
                body, identifier=_only(request, _IDENTIFIER), signature=_only(request, _SIGNATURE)
            )

            async def replay() -> Message:
                return {"type": "http.request", "body": body, "more_body": False}

            return await handle(Request(request.scope, replay))

        return signed


router = APIRouter(route_class=SignedRoute, tags=["tokens"])

Reports = Annotated[list[LeakReport], Body(min_length=1, max_length=_MAX_REPORTS)]


@router.post(
    "/tokens/leaked",
    responses=problems(400, 403, 408, 415, 422, 503),
    openapi_extra=request_headers(
        {
            _IDENTIFIER: "Which key of the scanner has signed the body.",
            _SIGNATURE: "Base64 of an ECDSA signature (P-256, SHA-256, DER) over the body.",
        },
        required=True,
    ),
)
async def report_leaked(reports: Reports, request: Request) -> list[LeakFeedback]:
    """End every token that was found in public, with its session, and say which were ours.

    For secret scanners, in the form of GitHub's partner programme; see docs/secret-scanning.md.
    """
    leaks = [Leak(item.token, item.url, item.source) for item in reports]
    verdicts = await context_of(request).runtime.services.leaks.end(leaks)
    return [LeakFeedback.of(*pair) for pair in zip(reports, verdicts, strict=True)]


def _only(request: Request, name: str) -> str:
    values = request.headers.getlist(name)
    if len(values) > 1:
        # Which of them a proxy has looked at, and which we would, cannot be known.
        raise DuplicateHeader
    if not values:
        raise ReportNotSigned
    return values[0]
