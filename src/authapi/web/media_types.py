"""Checks the media type, charset and content coding of a request body.

RFC 9110, sections 8.3 and 8.4, define the headers. Parameters follow RFC 2045, section 5.1: names
are case-insensitive, values may be quoted, unknown parameters are ignored. Only UTF-8 is accepted:
with another charset, the same bytes could have another meaning.
"""

import re

from starlette.requests import Request

from authapi.errors import UnsupportedMediaType

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_TYPE = re.compile(rf"{_TOKEN}/{_TOKEN}")
_PARAMETER = re.compile(rf'({_TOKEN})[ \t]*=[ \t]*(?:({_TOKEN})|"((?:[^"\\]|\\.)*)")')
_SPACE = re.compile(r"[ \t]*")
_UTF_8 = frozenset({"utf-8", "utf8"})
"""IANA registers the name with a hyphen only; many libraries omit it."""


def require_media_type(request: Request, expected: str) -> None:
    """Checks that the body has the media type `expected`, in UTF-8 and without a content coding.

    Raises UnsupportedMediaType otherwise.
    """
    content_type = request.headers.get("content-type", "")
    if content_type != expected:
        parsed = _parse_content_type(content_type)
        if parsed is None or parsed[0] != expected:
            raise UnsupportedMediaType(f"Send {expected}")
        if parsed[1] is not None and parsed[1] not in _UTF_8:
            raise UnsupportedMediaType("The charset must be utf-8")
    for line in request.headers.getlist("content-encoding"):
        if any(coding.strip().lower() not in {"", "identity"} for coding in line.split(",")):
            # RFC 9110, section 12.5.3: the header tells the client that the content coding is the
            # reason, and not the media type.
            raise UnsupportedMediaType(
                "Send the body without a content coding", accept_encoding="identity"
            )


def is_form(request: Request) -> bool:
    """Whether the media type of the body is that of a form, in any charset and content coding."""
    parsed = _parse_content_type(request.headers.get("content-type", ""))
    return parsed is not None and parsed[0] == FORM


def _parse_content_type(text: str) -> tuple[str, str | None] | None:
    """Returns media type and charset in lower case, or None if malformed or with two charsets."""
    position = _after_space(text, 0)
    media_type = _TYPE.match(text, position)
    if media_type is None:
        return None
    charset: str | None = None
    position = _after_space(text, media_type.end())
    while position < len(text):
        if text[position] != ";":
            return None
        position = _after_space(text, position + 1)
        if position == len(text) or text[position] == ";":
            continue
        parameter = _PARAMETER.match(text, position)
        if parameter is None:
            return None
        if parameter[1].lower() == "charset":
            if charset is not None:
                return None
            charset = _value(parameter).lower()
        position = _after_space(text, parameter.end())
    return media_type[0].lower(), charset


def _value(parameter: re.Match[str]) -> str:
    token: str | None = parameter[2]
    return re.sub(r"\\(.)", r"\1", parameter[3]) if token is None else token


def _after_space(text: str, position: int) -> int:
    space = _SPACE.match(text, position)
    return position if space is None else space.end()
