"""The forms of OAuth: read as RFC 6749 wants it, and described in the OpenAPI document."""

import re
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request

from authapi.errors import InvalidTokenRequest, MalformedRequest
from authapi.web.routing import MAX_FIELDS, MAX_VALUE, read_form

Form = Mapping[str, str]

_KEY = "authapi.form"
"""Where the form of a request lies once it is read: client authentication and handler share it."""

_MAX_TOKEN = 8192
"""Characters: no token of ours is longer."""
_MAX_HINT = 255
_OTHER = {"type": "string", "maxLength": MAX_VALUE, "pattern": r"^[^\x00]*$"}
_HINT = r"[\x20-\x7e]*"


def form_body(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The `openapi_extra` of a route that reads a form."""
    kinds = schema.get("oneOf", [schema])
    # RFC 6749, section 3.1: what is not known is ignored, and still nothing comes twice.
    others = {"maxProperties": MAX_FIELDS, "additionalProperties": _OTHER}
    described = [{**kind, **others} for kind in kinds]
    found = described[0] if len(described) == 1 else {"oneOf": described}
    content = {"application/x-www-form-urlencoded": {"schema": found}}
    return {"requestBody": {"required": True, "content": content}}


_TOKEN: Mapping[str, Any] = {
    "type": "object",
    "title": "A token",
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
            "description": "Not needed: a token says what it is.",
        },
    },
}
_CLIENT = {
    "client_id": {**_OTHER, "description": "The id of a personal access token."},
    "client_secret": {**_OTHER, "format": "password", "description": "The token with this id."},
}
TOKEN_BODY = form_body(_TOKEN)
"""The body of a route that is about one token (RFC 7009, section 2.1; RFC 7662, section 2.1)."""
CLIENT_BODY = form_body({**_TOKEN, "properties": {**_TOKEN["properties"], **_CLIENT}})
"""The same, with client authentication in it (RFC 6749, section 2.3.1)."""


async def oauth_form(request: Request) -> Form:
    """The fields of a form. Raises InvalidTokenRequest for one that has no single meaning,
    UnsupportedMediaType and BodyTooLarge.
    """
    if _KEY in request.scope:
        found: Form = request.scope[_KEY]
        return found
    try:
        form = request.scope[_KEY] = await read_form(request)
        return form
    except MalformedRequest:
        raise InvalidTokenRequest("The form cannot be read, or names a field twice") from None


async def presented_token(request: Request) -> str:
    """The `token` of a form. Raises InvalidTokenRequest if there is none that could be one, and as
    `oauth_form`.
    """
    form = await oauth_form(request)
    token, hint = form.get("token"), form.get("token_type_hint", "")
    # RFC 6749, section 3.1: without a value it counts as left out.
    if not token or len(token) > _MAX_TOKEN:
        raise InvalidTokenRequest("token is missing or too long")
    if len(hint) > _MAX_HINT or not re.fullmatch(_HINT, hint):
        raise InvalidTokenRequest("token_type_hint is malformed")
    return token
