"""Refresh tokens: their format, and the derivation of a token from its predecessor.

A token is `art_`, 48 bytes as base64url, and a checksum of 6 characters. The first 16 bytes are
random and the same in all tokens of a family; the other 32 bytes change with each rotation. One row
per family is therefore enough to distinguish an unknown token from a replay of an earlier token of
the family, however old it is.

A token's successor is derived from the token and a stored nonce. A client that did not receive the
response presents the old token again and receives the same successor. The row alone, or the old
token alone, is not enough to derive it. See `docs/decisions/0012-refresh-families.md`.
"""

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field

from authapi.crypto import base64url
from authapi.crypto.secrets import SecretHash, checksum_of, hash_secret

REFRESH_PREFIX = "art_"
"""The prefix of every refresh token, by which secret scanners recognize leaked tokens."""

NONCE_BYTES = 32
_FAMILY_BYTES = 16
_SECRET_BYTES = 32
_LENGTH = len(REFRESH_PREFIX) + 64 + 6


@dataclass(frozen=True, slots=True)
class RefreshToken:
    """A token of a family."""

    family: bytes = field(repr=False)
    """16 random bytes, the same in all tokens of the family."""
    secret: bytes = field(repr=False)

    @property
    def text(self) -> str:
        """The token as the client receives it."""
        body = REFRESH_PREFIX + base64url.encode(self.family + self.secret)
        return body + checksum_of(body)

    @property
    def hash(self) -> SecretHash:
        """The stored hash of this token."""
        return hash_secret(self.text)

    @property
    def family_hash(self) -> SecretHash:
        """The hash by which the family is looked up."""
        return SecretHash(hashlib.sha256(self.family).digest())

    def successor(self, nonce: bytes) -> "RefreshToken":
        """Returns the next token: HMAC-SHA256 of the random `nonce` under this token's secret."""
        message = b"authapi refresh token 1" + nonce
        return RefreshToken(self.family, hmac.digest(self.secret, message, "sha256"))


def new_refresh_token() -> RefreshToken:
    """Returns the first token of a new family."""
    return RefreshToken(secrets.token_bytes(_FAMILY_BYTES), secrets.token_bytes(_SECRET_BYTES))


def new_nonce() -> bytes:
    """Returns 32 random bytes, from which a successor is derived."""
    return secrets.token_bytes(NONCE_BYTES)


def parse_refresh_token(text: str) -> RefreshToken | None:
    """Returns the token of `text`, or None if its form or checksum is invalid. Needs no query."""
    if len(text) != _LENGTH or not text.startswith(REFRESH_PREFIX):
        return None
    body, checksum = text[:-6], text[-6:]
    try:
        raw = base64url.decode(body.removeprefix(REFRESH_PREFIX))
    except ValueError:
        return None
    if checksum != checksum_of(body):
        return None
    return RefreshToken(raw[:_FAMILY_BYTES], raw[_FAMILY_BYTES:])
