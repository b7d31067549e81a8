"""POST /tokens/leaked: a secret scanner reports tokens that it found in public places.

The format is that of GitHub's secret scanning partner programme. The scanner signs the body of the
report. The signature is verified before the body is parsed.
"""

from typing import Annotated

from fastapi import APIRouter, Body, Request
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Message

from authapi.errors import DuplicateHeader, MalformedRequest, ReportNotSigned
from authapi.services.tokens import ReportedToken
from authapi.web.answers.descriptions import problems, request_headers
from authapi.web.context import context_of
from authapi.web.media_types import JSON, require_media_type
from authapi.web.routing import AuthAPIRoute, Handler, StrictRequest, has_body
from authapi.web.schemas.token import LeakFeedback, LeakReport

_IDENTIFIER, _SIGNATURE = "Github-Public-Key-Identifier", "Github-Public-Key-Signature"
_MAX_REPORTS = 500


class SignedRoute(AuthAPIRoute):
    """A route that parses its body only if it has a valid signature of a known scanner key."""

    def get_route_handler(self) -> Handler:
        handle = super().get_route_handler()

        async def verify_and_handle(request: Request) -> Response:
            if has_body(request):
                require_media_type(request, JSON)
            try:
                body = await StrictRequest(request.scope, request.receive).body()
            except ClientDisconnect:
                raise MalformedRequest from None
            context_of(request).runtime.services.tokens.secret_scanning.verify_signature(
                body,
                identifier=_single(request, _IDENTIFIER),
                signature=_single(request, _SIGNATURE),
            )

            async def replay() -> Message:
                return {"type": "http.request", "body": body, "more_body": False}

            return await handle(Request(request.scope, replay))

        return verify_and_handle


router = APIRouter(route_class=SignedRoute, tags=["tokens"])

Reports = Annotated[list[LeakReport], Body(min_length=1, max_length=_MAX_REPORTS)]


@router.post(
    "/tokens/leaked",
    responses=problems(400, 403, 408, 415, 422, 503),
    openapi_extra=request_headers(
        {
            _IDENTIFIER: "The identifier of the key that the scanner signed the body with.",
            _SIGNATURE: "An ECDSA signature (P-256, SHA-256) of the body, as Base64 of DER.",
        },
        required=True,
    ),
)
async def report_leaked(reports: Reports, request: Request) -> list[LeakFeedback]:
    """Revoke tokens that a secret scanner found in public, with their sessions.

    The response says for each report whether the token was valid. The format is that of GitHub's
    secret scanning partner programme; see docs/secret-scanning.md.
    """
    leaks = [ReportedToken(item.token, item.url, item.source) for item in reports]
    verdicts = await context_of(request).runtime.services.tokens.secret_scanning.revoke_leaked(
        leaks
    )
    return [LeakFeedback.of(*pair) for pair in zip(reports, verdicts, strict=True)]


def _single(request: Request, name: str) -> str:
    values = request.headers.getlist(name)
    if len(values) > 1:
        # A proxy may have checked another value than the one that would be used here.
        raise DuplicateHeader
    if not values:
        raise ReportNotSigned
    return values[0]
