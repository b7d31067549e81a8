"""Checks a WebSocket handshake before the WebSocket library reads it.

The library answers an invalid handshake with a text that repeats parts of it, and does not answer
one that exceeds its limits. The rules are those of RFC 6455, section 4.2.1, and RFC 9110, section
5.6.
"""

import base64
import binascii
import re
from collections.abc import Sequence
from typing import Final

from authapi.errors import HeadersTooLarge, MalformedRequest, Refusal, TargetTooLong

MAX_FIELDS: Final = 128
MAX_LINE: Final = 8000
"""Bytes of a field or of the target. The library's limit is 8,192 for the whole line."""

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PARAMETER = rf'{_TOKEN}(?:[ \t]*=[ \t]*(?:{_TOKEN}|"{_TOKEN}"))?'
_EXTENSION = rf"{_TOKEN}(?:[ \t]*;[ \t]*{_PARAMETER})*"
_LISTS: Final = {
    b"connection": re.compile(rf"{_TOKEN}(?:[ \t]*,[ \t]*{_TOKEN})*".encode()),
    b"sec-websocket-protocol": re.compile(rf"{_TOKEN}(?:[ \t]*,[ \t]*{_TOKEN})*".encode()),
    b"sec-websocket-extensions": re.compile(
        rf"{_EXTENSION}(?:[ \t]*,[ \t]*{_EXTENSION})*".encode()
    ),
}
_KEY_BYTES: Final = 16


def check_handshake(target: bytes, headers: Sequence[tuple[bytes, bytes]]) -> Refusal | None:
    """Returns the refusal of a handshake with this request target and these fields, or None."""
    if len(target) > MAX_LINE:
        return TargetTooLong()
    if len(headers) > MAX_FIELDS or any(len(n) + len(v) > MAX_LINE for n, v in headers):
        return HeadersTooLarge()
    if any(name in (b"transfer-encoding", b"content-length") for name, _ in headers):
        return MalformedRequest("A WebSocket handshake must not have a body")
    if any(
        name in _LISTS and _LISTS[name].fullmatch(value.strip(b" \t")) is None
        for name, value in headers
    ):
        return MalformedRequest("A header of the WebSocket handshake is malformed")
    if _values(headers, b"sec-websocket-version") != [b"13"]:
        return MalformedRequest("The supported WebSocket version is 13", websocket_version="13")
    keys = _values(headers, b"sec-websocket-key")
    if len(keys) != 1 or not _is_key(keys[0]):
        return MalformedRequest("Sec-WebSocket-Key is missing, repeated or malformed")
    if len(_values(headers, b"origin")) > 1 or len(_values(headers, b"host")) != 1:
        return MalformedRequest("Host is missing, or Host or Origin is repeated")
    return None


def _values(headers: Sequence[tuple[bytes, bytes]], field: bytes) -> list[bytes]:
    return [value.strip(b" \t") for name, value in headers if name == field]


def _is_key(text: bytes) -> bool:
    try:
        return len(base64.b64decode(text, validate=True)) == _KEY_BYTES
    except (binascii.Error, ValueError):
        return False
