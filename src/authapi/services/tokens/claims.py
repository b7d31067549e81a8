"""What the claims of an access token of ours stand for."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

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


def access_claims(verified: Mapping[str, object]) -> AccessClaims:
    """The claims that `Keys.verify_access_token` gave. Raises TokenError if they are not ours."""
    try:
        return AccessClaims(
            session_id=UUID(str(verified.get("sid"))),
            user_id=UUID(str(verified["sub"])),
            scopes=frozenset(str(verified.get("scope", "")).split()),
            audience=verified["aud"],
            issued_at=_moment(verified["iat"]),
            expires_at=_moment(verified["exp"]),
            jti=str(verified["jti"]),
        )
    except (ValueError, OverflowError):
        raise TokenError from None


def _moment(numeric_date: object) -> datetime:
    return datetime.fromtimestamp(float(str(numeric_date)), UTC)
