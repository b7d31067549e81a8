"""Form bodies of the OAuth endpoints (RFC 6749), and their schemas for the OpenAPI document."""

import re
from collections.abc import Mapping
from typing import Any

from starlette.requests import HTTPConnection, Request

from authapi.errors import InvalidTokenRequest, MalformedRequest
from authapi.web.routing import MAX_FIELDS, MAX_VALUE, read_form

Form = Mapping[str, str]

_SCOPE_KEY = "authapi.form"
"""Key of the parsed form in the ASGI scope: client authentication and the handler both use it."""

_MAX_TOKEN = 8192
"""Characters. The service issues no longer tokens."""
_MAX_HINT = 255
_OTHER = {"type": "string", "maxLength": MAX_VALUE, "pattern": r"^[^\x00]*$"}
_HINT = r"[\x20-\x7e]*"


def form_body(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The `openapi_extra` of a route that reads a form with this schema."""
    # RFC 6749, section 3.1: unknown parameters are ignored. With `additionalProperties`, generators
    # of clients make types that exclude optional parameters.
    complete = {**schema, "maxProperties": MAX_FIELDS, "patternProperties": {"^": _OTHER}}
    content = {"application/x-www-form-urlencoded": {"schema": complete}}
    return {"requestBody": {"required": True, "content": content}}


_TOKEN: Mapping[str, Any] = {
    "type": "object",
    "required": ["token"],
    "properties": {
        "token": {
            "type": "string",
            "format": "password",
            "minLength": 1,
            "maxLength": _MAX_TOKEN,
            "description": "A refresh token or an access token of any kind.",
        },
        "token_type_hint": {
            "type": "string",
            "maxLength": _MAX_HINT,
            "pattern": f"^{_HINT}$",
            "examples": ["refresh_token"],
            "description": "Ignored: the service recognizes the type of a token by its format.",
        },
    },
}
_CLIENT = {
    "client_id": {**_OTHER, "description": "The id of a personal access token."},
    "client_secret": {**_OTHER, "format": "password", "description": "The token with that id."},
}
TOKEN_BODY = form_body(_TOKEN)
"""A form with a token (RFC 7009, section 2.1; RFC 7662, section 2.1)."""
CLIENT_BODY = form_body({**_TOKEN, "properties": {**_TOKEN["properties"], **_CLIENT}})
"""A form with a token and client authentication (RFC 6749, section 2.3.1)."""


async def oauth_form(request: Request) -> Form:
    """The parameters of the form body.

    Raises InvalidTokenRequest if the form is malformed or repeats a parameter,
    UnsupportedMediaType for another content type, and RefusalHTTPException if the body is too large
    or arrives too slowly.
    """
    if _SCOPE_KEY in request.scope:
        cached: Form = request.scope[_SCOPE_KEY]
        return cached
    try:
        form = request.scope[_SCOPE_KEY] = await read_form(request)
        return form
    except MalformedRequest:
        raise InvalidTokenRequest("The form is malformed, or repeats a parameter") from None


def parsed_form(connection: HTTPConnection) -> Form:
    """The result of `oauth_form` for this request, or an empty form if it was not called."""
    form: Form = connection.scope.get(_SCOPE_KEY, {})
    return form


async def token_parameter(request: Request) -> str:
    """The parameter `token` of the form body.

    Raises InvalidTokenRequest if it is missing or too long, or if `token_type_hint` is malformed,
    and as `oauth_form`.
    """
    form = await oauth_form(request)
    token, hint = form.get("token"), form.get("token_type_hint", "")
    # RFC 6749, section 3.1: a parameter without a value is treated as omitted.
    if not token or len(token) > _MAX_TOKEN:
        raise InvalidTokenRequest("token is missing or too long")
    if len(hint) > _MAX_HINT or not re.fullmatch(_HINT, hint):
        raise InvalidTokenRequest("token_type_hint is malformed")
    return token
