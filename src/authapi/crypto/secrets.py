"""Random secrets, their visible form, and the only thing that is kept of them: a hash.

A secret has 256 random bits, so a plain SHA-256 keeps it safe at rest: there is nothing to guess
that a slow hash would slow down (OWASP ASVS 6.5.2, 11.4.2 concern passwords).
"""

import hashlib
import secrets
import zlib
from dataclasses import dataclass, field

from authapi.crypto import base64url

OPAQUE_PREFIX = "aat_"
"""Starts every opaque access token, so that scanners find one that leaked."""

_BYTES = 32
_LENGTH = 43
_CHECKSUM_LENGTH = 6


@dataclass(frozen=True, slots=True)
class SecretHash:
    """The SHA-256 of a secret. A type of its own, so that no secret is stored in its place."""

    digest: bytes = field(repr=False)


def new_secret() -> str:
    """256 random bits as 43 base64url characters."""
    return secrets.token_urlsafe(_BYTES)


def new_opaque_token() -> str:
    """`aat_`, 43 random base64url characters, and a checksum of 6 more."""
    body = OPAQUE_PREFIX + new_secret()
    return body + checksum_of(body)


def is_secret(text: str) -> bool:
    """Whether `text` has the form of `new_secret()`: what does not costs no query."""
    return len(text) == _LENGTH and _is_canonical_base64url(text)


def is_opaque_token(text: str) -> bool:
    """Whether `text` has the form of `new_opaque_token()`, checksum included.

    The checksum is CRC-32: it tells a typing error from a token, and proves nothing.
    """
    if len(text) != len(OPAQUE_PREFIX) + _LENGTH + _CHECKSUM_LENGTH:
        return False
    body, checksum = text[:-_CHECKSUM_LENGTH], text[-_CHECKSUM_LENGTH:]
    return (
        body.startswith(OPAQUE_PREFIX)
        and is_secret(body.removeprefix(OPAQUE_PREFIX))
        and checksum == checksum_of(body)
    )


def hash_secret(secret: str) -> SecretHash:
    """What is stored for `secret`, and what it is looked up by."""
    return SecretHash(hashlib.sha256(secret.encode()).digest())


def checksum_of(body: str) -> str:
    """The CRC-32 of a visible secret, as 6 characters to put behind it."""
    return base64url.encode(zlib.crc32(body.encode()).to_bytes(4))


def _is_canonical_base64url(text: str) -> bool:
    try:
        base64url.decode(text)
    except ValueError:
        return False
    return True
