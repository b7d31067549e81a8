"""POST /token: the token endpoint (RFC 6749, section 3.2).

A refresh token is exchanged for an access token and the next refresh token. By default, the
password grant exists only for the Authorize dialog of the docs page, and is disabled with that page
(setting `password_grant`): OAuth 2.1 removes it, and first-party logins use `POST /login`. Clients
do not authenticate, because they are public clients (RFC 6749, section 2.1).
"""

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from authapi.crypto.password_normalization import MAX_LENGTH, is_too_long
from authapi.domain.scopes import effective_scopes, supported_scopes
from authapi.domain.username import parse_login_name
from authapi.errors import (
    InvalidCredentials,
    InvalidGrant,
    InvalidInput,
    InvalidScope,
    InvalidTokenRequest,
    UnsupportedGrantType,
)
from authapi.strategies.base import Issued, Refreshable
from authapi.web.answers.descriptions import problems
from authapi.web.context import Runtime, context_of
from authapi.web.routes.oauth.forms import Form, form_body, oauth_form
from authapi.web.routing import MAX_VALUE, AuthAPIRoute
from authapi.web.schemas.fields import LIMIT
from authapi.web.schemas.oauth import TokenOut

router = APIRouter(route_class=AuthAPIRoute, tags=["login"])

_MAX_SCOPE = 8192
_SCOPE = r"[\x20\x21\x23-\x5b\x5d-\x7e]*"
"""The characters of a scope parameter (RFC 6749, section 3.3)."""

_BODY = {
    "type": "object",
    LIMIT: "password_grant",
    "required": ["grant_type"],
    "properties": {
        "grant_type": {
            "type": "string",
            "enum": ["refresh_token", "password"],
            "description": "What is exchanged; each grant has parameters of its own.",
        },
        "refresh_token": {
            "type": "string",
            "format": "password",
            "maxLength": MAX_VALUE,
            "description": "The refresh token of the last response. It can be used once.",
        },
        "username": {
            "type": "string",
            "maxLength": 254,
            "examples": ["alice@example.com"],
            "pattern": r"^[^\x00]*$",
            "description": "The e-mail address or the user name, as at a login.",
        },
        "password": {
            "type": "string",
            "format": "password",
            "minLength": 1,
            "maxLength": MAX_LENGTH,
            "examples": ["correct horse battery staple"],
        },
        "scope": {
            "type": "string",
            "maxLength": _MAX_SCOPE,
            "pattern": f"^{_SCOPE}$",
            "description": "A subset of the scopes of the login or account; by default all.",
        },
    },
    # One form with the parameters of all grants: generators make a function with these parameters.
    "if": {"properties": {"grant_type": {"const": "password"}}},
    "then": {"required": ["username", "password"]},
    # With the password grant, it is ignored as any other parameter.
    "else": {
        "required": ["refresh_token"],
        "properties": {"refresh_token": {"maxLength": 255}},
    },
}


@router.post(
    "/token",
    response_model=TokenOut,
    responses=problems(400, 408, 415, 429, 503),
    openapi_extra=form_body(_BODY),
)
async def token(request: Request) -> Response:
    """Exchange a grant for a JWT. Errors contain `error` as in RFC 6749, section 5.2."""
    runtime = context_of(request).runtime
    form = await oauth_form(request)
    name = form.get("grant_type")
    if not name:  # a parameter without a value is treated as omitted (RFC 6749, section 3.2)
        raise InvalidTokenRequest("grant_type is missing")
    grant = supported_grants(runtime).get(name)
    if grant is None:
        raise UnsupportedGrantType
    issued = await grant(runtime, request, form)
    scope = " ".join(sorted(issued.scopes))
    answer = TokenOut.model_validate({**issued.body, "scope": scope})
    return Response(answer.model_dump_json(exclude_unset=True), media_type="application/json")


Grant = Callable[[Runtime, Request, Form], Awaitable[Issued]]


def supported_grants(runtime: Runtime) -> Mapping[str, Grant]:
    """The grants that this installation supports, by their `grant_type`."""
    grants: dict[str, Grant] = {}
    if _refreshable(runtime) is not None:
        grants["refresh_token"] = _refresh_token_grant
        if runtime.services.settings.allows_password_grant:
            grants["password"] = _password_grant
    return grants


def _refreshable(runtime: Runtime) -> Refreshable[Any] | None:
    return next((item for item in runtime.registry if isinstance(item, Refreshable)), None)


async def _refresh_token_grant(runtime: Runtime, request: Request, form: Form) -> Issued:
    issuer, refresh_token = _refreshable(runtime), form.get("refresh_token")
    if issuer is None:
        raise UnsupportedGrantType
    if not refresh_token:
        raise InvalidTokenRequest("refresh_token is missing")
    return await issuer.refresh(refresh_token, scopes=_requested_scopes(form))


async def _password_grant(runtime: Runtime, request: Request, form: Form) -> Issued:
    issuer = _refreshable(runtime)
    if issuer is None:
        raise UnsupportedGrantType
    requested = _requested_scopes(form)
    hooks = runtime.services.hooks
    if not hooks.adds_scopes:
        _require_subset(requested, of=supported_scopes(runtime.settings))
    username, password = form.get("username"), form.get("password")
    if not username or not password or is_too_long(password):
        raise InvalidTokenRequest("username or password is missing or too long")
    settings = runtime.services.settings
    try:
        login_name = parse_login_name(
            username,
            settings.login_identifier,
            allow_reserved=settings.allow_reserved_addresses,
        )
    except InvalidInput:
        raise InvalidGrant from None
    try:
        proved = await runtime.services.accounts.authentication.authenticate(
            login_name, password, strategy=issuer.name, request=request
        )
    except InvalidCredentials:
        raise InvalidGrant from None
    # Checked after the password: the error reveals which scopes the account has.
    own = await hooks.own_scopes(proved.user)
    held = effective_scopes(None, proved.user, settings, own, amr=proved.amr)
    _require_subset(requested, of=held)
    login = runtime.services.logins.complete_at_once(replace(proved, scopes=requested))
    return await issuer.issue(login, request)


def _requested_scopes(form: Form) -> frozenset[str] | None:
    # RFC 6749, section 3.2: a parameter without a value is treated as omitted. Swagger UI sends an
    # empty scope if none is selected.
    text = form.get("scope")
    if not text:
        return None
    names = text.split(" ")
    if len(text) > _MAX_SCOPE or len(set(names)) != len(names):
        raise InvalidScope
    return frozenset(names)


def _require_subset(requested: frozenset[str] | None, *, of: Collection[str]) -> None:
    if requested is not None and not requested.issubset(of):
        raise InvalidScope
