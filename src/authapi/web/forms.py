"""The forms of OAuth: read as RFC 6749 wants it, and described in the OpenAPI document."""

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request

from authapi.errors import InvalidTokenRequest, MalformedRequest
from authapi.web.routing import read_form

Form = Mapping[str, str]


def form_body(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The `openapi_extra` of a route that reads a form."""
    content = {"application/x-www-form-urlencoded": {"schema": dict(schema)}}
    return {"requestBody": {"required": True, "content": content}}


TOKEN_BODY = form_body(
    {
        "type": "object",
        "title": "A token",
        "required": ["token"],
        "properties": {
            "token": {
                "type": "string",
                "format": "password",
                "minLength": 1,
                "description": "A refresh token or an access token of any kind.",
            },
            "token_type_hint": {
                "type": "string",
                "examples": ["refresh_token"],
                "description": "Not needed: a token says what it is.",
            },
        },
    }
)
"""The body of a route that is about one token (RFC 7009, section 2.1; RFC 7662, section 2.1)."""


async def oauth_form(request: Request) -> Form:
    """The fields of a form. Raises InvalidTokenRequest for one that has no single meaning,
    UnsupportedMediaType and BodyTooLarge.
    """
    try:
        return await read_form(request)
    except MalformedRequest:
        raise InvalidTokenRequest("The form cannot be read, or names a field twice") from None


async def presented_token(request: Request) -> str:
    """The `token` of a form. Raises InvalidTokenRequest if there is none, and as `oauth_form`."""
    token = (await oauth_form(request)).get("token")
    if not token:  # RFC 6749, section 3.1: without a value it counts as left out
        raise InvalidTokenRequest("token is missing")
    return token
