"""The claims of the access tokens that this service signs."""

from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from authapi.crypto.jws import VerifiedToken
from authapi.errors import TokenError


@dataclass(frozen=True, slots=True)
class AccessClaims:
    """The claims that `Keys.sign_access_token` writes, as Python types."""

    session_id: UUID
    user_id: UUID
    scopes: frozenset[str]
    audience: object
    """`aud` as in the token: a string or a list of strings."""
    issued_at: datetime
    expires_at: datetime
    jti: str
    kid: str
    """Of the key that verified the signature. The key may have been retired since."""


def parse_access_claims(verified: VerifiedToken) -> AccessClaims:
    """Parses the claims of a token that `Keys.verify_access_token` has verified.

    Raises TokenError if a claim does not have the form that `Keys.sign_access_token` writes.
    """
    claims = verified.claims
    try:
        return AccessClaims(
            session_id=_uuid(claims.get("sid")),
            user_id=_uuid(claims["sub"]),
            scopes=frozenset(str(claims.get("scope", "")).split()),
            audience=claims["aud"],
            issued_at=_time(claims["iat"]),
            expires_at=_time(claims["exp"]),
            jti=str(claims["jti"]),
            kid=verified.key.kid,
        )
    except (ValueError, OverflowError):
        raise TokenError from None


def _uuid(text: object) -> UUID:
    # `UUID` also accepts braces, `urn:uuid:` and whitespace. Accepting them here would give one
    # session several spellings.
    parsed = UUID(str(text))
    if str(parsed) != text:
        raise ValueError
    return parsed


def _time(numeric_date: object) -> datetime:
    return datetime.fromtimestamp(float(str(numeric_date)), UTC)
