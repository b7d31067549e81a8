"""base64url without padding, in its canonical form (RFC 4648, section 5; RFC 7515, section 2).

Python and the libraries for JOSE accept several texts for the same bytes.
"""

import base64
import binascii
import re

_TEXT = re.compile(r"[A-Za-z0-9_-]+")


def encode(data: bytes) -> str:
    """Returns `data` as base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode(text: str) -> bytes:
    """Returns the bytes of `text`. Raises ValueError unless `encode` returns `text` for them.

    Padding, the standard Base64 alphabet, white space and unused bits in the last character would
    give several encodings of the same bytes. Code that compares encoded values would treat them as
    different.
    """
    if not _TEXT.fullmatch(text):
        raise ValueError("not base64url")
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error:
        raise ValueError("not base64url") from None
    if encode(data) != text:
        raise ValueError("not the canonical base64url")
    return data
