"""Random secrets, their textual forms, and their hashes, which are the only stored form.

A secret has 256 random bits, so a plain SHA-256 protects it at rest. A slow hash protects values
that can be guessed, such as passwords (OWASP ASVS 6.5.2, 11.4.2).
"""

import hashlib
import re
import secrets
import zlib
from dataclasses import dataclass, field

from authapi.crypto import base64url

OPAQUE_PREFIX = "aat_"
"""The prefix of every opaque access token, by which secret scanners recognize leaked tokens."""

_BYTES = 32
_LENGTH = 43
_SECRET = re.compile(r"[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]")
"""256 bits in base64url: of the last character, four bits are used, and the other two are zero."""
_CHECKSUM_LENGTH = 6


@dataclass(frozen=True, slots=True)
class SecretHash:
    """The SHA-256 of a secret. A separate type, so that a secret cannot be stored by mistake."""

    digest: bytes = field(repr=False)


def new_secret() -> str:
    """Returns 256 random bits as 43 base64url characters."""
    return secrets.token_urlsafe(_BYTES)


def new_opaque_token() -> str:
    """Returns `aat_`, a secret of 43 base64url characters, and a checksum of 6 characters."""
    body = OPAQUE_PREFIX + new_secret()
    return body + checksum_of(body)


def is_secret(text: str) -> bool:
    """Returns whether `text` has the form of `new_secret()`. Other texts need no query."""
    return _SECRET.fullmatch(text) is not None


def is_opaque_token(text: str) -> bool:
    """Returns whether `text` has the form of `new_opaque_token()`, with a valid checksum.

    The checksum is CRC-32. It detects typing errors, and is not a protection against forgery.
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
    """Returns the hash that is stored for `secret`, and by which it is looked up."""
    return SecretHash(hashlib.sha256(secret.encode()).digest())


def checksum_of(body: str) -> str:
    """Returns the CRC-32 of `body` as 6 base64url characters, which follow it in a token."""
    return base64url.encode(zlib.crc32(body.encode()).to_bytes(4))
