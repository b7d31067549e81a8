"""What the claims of an access token of ours stand for."""

from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from authapi.crypto.jws import Verified
from authapi.errors import TokenError


@dataclass(frozen=True, slots=True)
class AccessClaims:
    """What `Keys.sign_access_token` wrote, in our own types."""

    session_id: UUID
    user_id: UUID
    scopes: frozenset[str]
    audience: object
    """One name, or a list of them, as it is written."""
    issued_at: datetime
    expires_at: datetime
    jti: str
    kid: str
    """Of the key that vouches for all this; it may have been retired a moment ago."""


def access_claims(verified: Verified) -> AccessClaims:
    """What a token says that `Keys.verify_access_token` let pass.

    Raises TokenError for claims that we have not written.
    """
    claims = verified.claims
    try:
        return AccessClaims(
            session_id=_id(claims.get("sid")),
            user_id=_id(claims["sub"]),
            scopes=frozenset(str(claims.get("scope", "")).split()),
            audience=claims["aud"],
            issued_at=_moment(claims["iat"]),
            expires_at=_moment(claims["exp"]),
            jti=str(claims["jti"]),
            kid=verified.key.kid,
        )
    except (ValueError, OverflowError):
        raise TokenError from None


def _id(text: object) -> UUID:
    # `UUID` also reads braces, `urn:uuid:` and blanks in place of digits, which we do not write.
    found = UUID(str(text))
    if str(found) != text:
        raise ValueError
    return found


def _moment(numeric_date: object) -> datetime:
    return datetime.fromtimestamp(float(str(numeric_date)), UTC)
