"""base64url without padding (RFC 4648, section 5; RFC 7515, section 2), in its one spelling."""

import base64
import binascii
import re

_TEXT = re.compile(r"[A-Za-z0-9_-]+")


def encode(data: bytes) -> str:
    """`data` as base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode(text: str) -> bytes:
    """The bytes that `encode` spells as `text`; ValueError for every other spelling of them.

    Padding, the other alphabet, white space and a changed last character are other texts for the
    same bytes: what is accepted in two spellings can be told apart by nobody who compares texts.
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
