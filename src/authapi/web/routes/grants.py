"""POST /token: the token endpoint (RFC 6749, section 3.2).

The password grant is there for the Authorize dialog of the docs page and goes with it: OAuth 2.1
has dropped it, and a first-party login is `POST /login`.
"""

from collections.abc import Collection
from dataclasses import replace

from fastapi import APIRouter, Request
from starlette.responses import Response

from authapi.crypto.passwords import MAX_LENGTH
from authapi.errors import (
    InvalidCredentials,
    InvalidGrant,
    InvalidInput,
    InvalidScope,
    InvalidTokenRequest,
    MalformedRequest,
    UnsupportedGrantType,
)
from authapi.services.addresses import parse_email
from authapi.strategies.base import Issued
from authapi.web.context import Runtime, context_of
from authapi.web.openapi import problems
from authapi.web.routing import AuthAPIRoute, read_form
from authapi.web.schemas import TokenOut

router = APIRouter(route_class=AuthAPIRoute, tags=["login"])

_MAX_SCOPE = 8192
_SCOPE = r"[\x20\x21\x23-\x5b\x5d-\x7e]*"
"""What a scope may be made of (RFC 6749, section 3.3)."""

_FORM = {
    "type": "object",
    "required": ["grant_type", "username", "password"],
    "properties": {
        "grant_type": {"type": "string", "enum": ["password"]},
        "username": {
            "type": "string",
            "format": "email",
            "maxLength": 254,
            "examples": ["alice@example.com"],
        },
        "password": {
            "type": "string",
            "format": "password",
            "minLength": 1,
            "maxLength": MAX_LENGTH,
            "examples": ["correct horse battery staple"],
        },
        "scope": {"type": "string", "maxLength": _MAX_SCOPE, "pattern": f"^{_SCOPE}$"},
    },
}


@router.post(
    "/token",
    response_model=TokenOut,
    responses=problems(400, 408, 415, 429, 503),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/x-www-form-urlencoded": {"schema": _FORM}},
        }
    },
)
async def token(request: Request) -> Response:
    """Exchange a grant for a JWT. Errors carry `error` as in RFC 6749, section 5.2."""
    runtime = context_of(request).runtime
    try:
        form = await read_form(request)
    except MalformedRequest:
        raise InvalidTokenRequest("The form cannot be read, or names a field twice") from None
    grant = form.get("grant_type")
    if grant is None:
        raise InvalidTokenRequest("grant_type is missing")
    if grant != "password" or not runtime.settings.docs_enabled:
        raise UnsupportedGrantType
    granted = _granted(form.get("scope", ""), runtime.settings.scopes)
    issued = await _password_grant(runtime, request, form, granted)
    scope = " ".join(sorted(granted))
    answer = TokenOut.model_validate({**issued.body, "scope": scope})
    return Response(answer.model_dump_json(), media_type="application/json")


def _granted(asked: str, existing: Collection[str]) -> frozenset[str]:
    # RFC 6749, section 3.2: a parameter without a value is one that was left out. Swagger UI sends
    # it so where nothing is ticked.
    if not asked:
        return frozenset(existing)
    names = asked.split(" ")
    if len(asked) > _MAX_SCOPE or len(set(names)) != len(names) or not set(names) <= set(existing):
        raise InvalidScope
    return frozenset(names)


async def _password_grant(
    runtime: Runtime, request: Request, form: dict[str, str], scopes: frozenset[str]
) -> Issued:
    issuer = runtime.registry.issuers.get("jwt")
    if issuer is None:
        raise UnsupportedGrantType("JWTs are not among the strategies")
    username, password = form.get("username"), form.get("password")
    if not username or not password or len(password) > MAX_LENGTH:
        raise InvalidTokenRequest("username or password is missing or too long")
    try:
        proved = await runtime.services.accounts.prove(
            parse_email(username), password, strategy=issuer.name
        )
    except (InvalidInput, InvalidCredentials):
        raise InvalidGrant from None
    return await issuer.issue(replace(proved, scopes=scopes), request)
