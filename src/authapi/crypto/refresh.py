"""Refresh tokens: what they are made of, and how one follows from the one before.

`art_`, then 48 bytes as base64url, then a checksum of 6 characters. The first 16 bytes are the same
in every token of a family, random, and known to whoever has ever held one; the other 32 change with
each rotation. So one row a family is enough to tell a stranger's text, which is nobody's, from a
token that was good once, which is a replay, however long ago that was.

The successor of a token is derived from the token and a nonce that is stored. Whoever lost the
answer presents the old token and is given the same successor again; the row alone, or the old token
alone, gives nothing. See `docs/decisions/0012-refresh-families.md`.
"""

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field

from authapi.crypto import base64url
from authapi.crypto.secrets import SecretHash, checksum_of, hash_secret

REFRESH_PREFIX = "art_"
"""Starts every refresh token, so that scanners find one that leaked."""

NONCE_BYTES = 32
_FAMILY_BYTES = 16
_SECRET_BYTES = 32
_LENGTH = len(REFRESH_PREFIX) + 64 + 6


@dataclass(frozen=True, slots=True)
class RefreshToken:
    """One token of a family."""

    family: bytes = field(repr=False)
    """Random, and the same in all of them."""
    secret: bytes = field(repr=False)

    @property
    def text(self) -> str:
        """What the client holds."""
        body = REFRESH_PREFIX + base64url.encode(self.family + self.secret)
        return body + checksum_of(body)

    @property
    def hash(self) -> SecretHash:
        """What is kept of this token."""
        return hash_secret(self.text)

    @property
    def family_hash(self) -> SecretHash:
        """What its family is found by."""
        return SecretHash(hashlib.sha256(self.family).digest())

    def successor(self, nonce: bytes) -> "RefreshToken":
        """The token that follows this one, by `nonce`, which is random and kept beside its hash."""
        message = b"authapi refresh token 1" + nonce
        return RefreshToken(self.family, hmac.digest(self.secret, message, "sha256"))


def new_refresh_token() -> RefreshToken:
    """The first token of a new family."""
    return RefreshToken(secrets.token_bytes(_FAMILY_BYTES), secrets.token_bytes(_SECRET_BYTES))


def new_nonce() -> bytes:
    """What a successor is derived with."""
    return secrets.token_bytes(NONCE_BYTES)


def parse_refresh_token(text: str) -> RefreshToken | None:
    """The token that `text` spells, or None if it spells none: that costs no query."""
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
