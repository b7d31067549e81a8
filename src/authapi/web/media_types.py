"""What a request says of its body: its media type, charset and content coding.

RFC 9110, sections 8.3 and 8.4; parameters as RFC 2045, section 5.1, has them: names have no case,
a value may be quoted, and parameters that are not known are ignored. A charset is read because
another one than UTF-8 would be another reading of the same bytes.
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
"""Without the hyphen it is no name of IANA's, and what many libraries write."""


def require_media_type(request: Request, expected: str) -> None:
    """Return if the body is `expected`, in UTF-8 and in no content coding.

    Raises UnsupportedMediaType.
    """
    written = request.headers.get("content-type", "")
    if written != expected:
        found = _parsed(written)
        if found is None or found[0] != expected:
            raise UnsupportedMediaType(f"Send {expected}")
        if found[1] is not None and found[1] not in _UTF_8:
            raise UnsupportedMediaType("The charset has to be utf-8")
    for line in request.headers.getlist("content-encoding"):
        if any(coding.strip().lower() not in {"", "identity"} for coding in line.split(",")):
            # RFC 9110, section 12.5.3: the header tells a client that its coding was the reason,
            # and not the media type.
            raise UnsupportedMediaType(
                "Send the body without a content coding", accept_encoding="identity"
            )


def is_form(request: Request) -> bool:
    """Whether the body is announced as a form, in any charset and content coding."""
    found = _parsed(request.headers.get("content-type", ""))
    return found is not None and found[0] == FORM


def _parsed(text: str) -> tuple[str, str | None] | None:
    """Media type and charset, in lower case; None for what is malformed or has two charsets."""
    position = _after_space(text, 0)
    found = _TYPE.match(text, position)
    if found is None:
        return None
    charset: str | None = None
    position = _after_space(text, found.end())
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
    return found[0].lower(), charset


def _value(parameter: re.Match[str]) -> str:
    token: str | None = parameter[2]
    return re.sub(r"\\(.)", r"\1", parameter[3]) if token is None else token


def _after_space(text: str, position: int) -> int:
    found = _SPACE.match(text, position)
    return position if found is None else found.end()
