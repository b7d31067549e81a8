"""POST /token: the token endpoint (RFC 6749, section 3.2).

A refresh token is exchanged for an access token and the next refresh token. The password grant is
there for the Authorize dialog of the docs page and goes with it: OAuth 2.1 has dropped it, and a
first-party login is `POST /login`. Nobody has to be authenticated: our clients are public, and a
grant proves itself.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import replace

from fastapi import APIRouter, Request
from starlette.responses import Response

from authapi.crypto.password_text import MAX_LENGTH, is_too_long
from authapi.errors import (
    InvalidCredentials,
    InvalidGrant,
    InvalidInput,
    InvalidScope,
    InvalidTokenRequest,
    UnsupportedGrantType,
)
from authapi.services.addresses import parse_email
from authapi.services.scopes import existing_scopes, scopes_of_login
from authapi.strategies.base import Issued, Refreshable
from authapi.web.context import Runtime, context_of
from authapi.web.openapi import problems
from authapi.web.routes.oauth.forms import Form, form_body, oauth_form
from authapi.web.routing import AuthAPIRoute
from authapi.web.schemas import TokenOut

router = APIRouter(route_class=AuthAPIRoute, tags=["login"])

_MAX_SCOPE = 8192
_SCOPE = r"[\x20\x21\x23-\x5b\x5d-\x7e]*"
"""What a scope may be made of (RFC 6749, section 3.3)."""
_SCOPE_FIELD = {"type": "string", "maxLength": _MAX_SCOPE, "pattern": f"^{_SCOPE}$"}

_REFRESH = {
    "type": "object",
    "title": "Refresh token grant",
    "required": ["grant_type", "refresh_token"],
    "properties": {
        "grant_type": {"type": "string", "enum": ["refresh_token"]},
        "refresh_token": {
            "type": "string",
            "format": "password",
            "maxLength": 255,
            "description": "As the last answer gave it; good once.",
        },
        "scope": {**_SCOPE_FIELD, "description": "May only narrow; left out, all of the login."},
    },
}
_PASSWORD = {
    "type": "object",
    "title": "Password grant, while the docs page is on",
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
        "scope": _SCOPE_FIELD,
    },
}


@router.post(
    "/token",
    response_model=TokenOut,
    responses=problems(400, 408, 415, 429, 503),
    openapi_extra=form_body({"oneOf": [_REFRESH, _PASSWORD]}),
)
async def token(request: Request) -> Response:
    """Exchange a grant for a JWT. Errors carry `error` as in RFC 6749, section 5.2."""
    runtime = context_of(request).runtime
    form = await oauth_form(request)
    name = form.get("grant_type")
    if not name:  # without a value it counts as left out (RFC 6749, section 3.2)
        raise InvalidTokenRequest("grant_type is missing")
    grant = grants_of(runtime).get(name)
    if grant is None:
        raise UnsupportedGrantType
    issued = await grant(runtime, request, form)
    scope = " ".join(sorted(issued.scopes))
    answer = TokenOut.model_validate({**issued.body, "scope": scope})
    return Response(answer.model_dump_json(exclude_unset=True), media_type="application/json")


Grant = Callable[[Runtime, Request, Form], Awaitable[Issued]]


def grants_of(runtime: Runtime) -> Mapping[str, Grant]:
    """The grants that this installation knows, by their `grant_type`."""
    known: dict[str, Grant] = {}
    if _refreshable(runtime) is not None:
        known["refresh_token"] = _refresh_token_grant
        if runtime.settings.docs_enabled:
            known["password"] = _password_grant
    return known


def _refreshable(runtime: Runtime) -> Refreshable | None:
    return next((item for item in runtime.registry if isinstance(item, Refreshable)), None)


async def _refresh_token_grant(runtime: Runtime, request: Request, form: Form) -> Issued:
    issuer, presented = _refreshable(runtime), form.get("refresh_token")
    if issuer is None:
        raise UnsupportedGrantType
    if not presented:
        raise InvalidTokenRequest("refresh_token is missing")
    return await issuer.refresh(presented, scopes=_asked(form))


async def _password_grant(runtime: Runtime, request: Request, form: Form) -> Issued:
    issuer = _refreshable(runtime)
    if issuer is None:
        raise UnsupportedGrantType
    asked = _asked(form)
    _require(asked, within=existing_scopes(runtime.settings))
    username, password = form.get("username"), form.get("password")
    if not username or not password or is_too_long(password):
        raise InvalidTokenRequest("username or password is missing or too long")
    try:
        proved = await runtime.services.accounts.prove(
            parse_email(username), password, strategy=issuer.name
        )
    except (InvalidInput, InvalidCredentials):
        raise InvalidGrant from None
    # What only others may is told to nobody but the owner of the password.
    _require(asked, within=scopes_of_login(proved.user, runtime.services.settings))
    return await issuer.issue(replace(proved, scopes=asked), request)


def _asked(form: Form) -> frozenset[str] | None:
    # RFC 6749, section 3.2: a parameter without a value is one that was left out. Swagger UI sends
    # it so where nothing is ticked.
    text = form.get("scope")
    if not text:
        return None
    names = text.split(" ")
    if len(text) > _MAX_SCOPE or len(set(names)) != len(names):
        raise InvalidScope
    return frozenset(names)


def _require(asked: frozenset[str] | None, *, within: Collection[str]) -> None:
    if asked is not None and not asked.issubset(within):
        raise InvalidScope
