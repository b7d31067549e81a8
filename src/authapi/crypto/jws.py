"""Signed tokens, and how python-jose is spoken to.

python-jose lets the token choose: it accepts unknown `crit` headers, duplicate members, missing
claims, several spellings of one signature, and answers some garbage with RecursionError, TypeError
or OverflowError. So `verify` reads header and claims itself, strictly, picks exactly one key pinned
to exactly one algorithm, and leaves to python-jose only what it is good at: the signature. Each
refusal is the same `TokenError` (RFC 7515, RFC 7519, RFC 8725, RFC 9068).
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from jose import jwt

from authapi.crypto import base64url, strict_json
from authapi.crypto.jwk import SigningKey, VerifyingKey
from authapi.errors import TokenError, UnknownKey

ACCESS_TOKEN: Final = "at+jwt"
"""The `typ` of access tokens (RFC 9068, section 2.1)."""

_MAX_LENGTH = 8192
_MAX_SKEW = 30
"""Seconds that `iat` may lie ahead, because clocks of several hosts differ."""
_MAX_TIME = 1 << 53
_HEADER_MEMBERS = frozenset({"alg", "typ", "kid"})


@dataclass(frozen=True, slots=True)
class Expected:
    """What a token has to be for whoever reads it."""

    issuer: str
    audiences: Collection[str]
    """One of these is enough."""
    types: Collection[str | None] = (ACCESS_TOKEN,)
    """What `typ` may be, to the letter; None stands for its absence."""
    required: Collection[str] = ("iss", "sub", "jti")
    """Claims that must be there, as text, besides `aud`, `exp` and `iat`."""
    ignored_header: Collection[str] = ()
    """Header members besides `alg`, `typ` and `kid` that may be there, and mean nothing to us."""
    kid_if_none: str | None = None
    """The key of tokens that name none: an issuer with one key need not (OpenID Connect Core 1.0,
    section 10.1). Without it, they are refused."""
    leeway: float = 0
    """Seconds that clocks may differ by: `exp` is over, and `nbf` come, so much later or sooner."""
    max_lifetime: int | None = None
    """Bounds `exp - iat`, in seconds."""


@dataclass(frozen=True, slots=True)
class Verified:
    """What a token says, and whose signature vouches for it."""

    claims: Mapping[str, object]
    key: VerifyingKey


def sign(claims: Mapping[str, object], key: SigningKey, *, typ: str = ACCESS_TOKEN) -> str:
    """`claims` as a compact JWS. Times are seconds since 1970, as integers."""
    return jwt.encode(
        dict(claims),  # python-jose writes into what it is given
        key.key,
        algorithm=key.verifying.algorithm,
        headers={"kid": key.verifying.kid, "typ": typ},
    )


def verify(
    token: object, *, keys: Mapping[str, VerifyingKey], expected: Expected, now: float
) -> Verified:
    """What `token` says, if every claim that matters and the signature hold at `now`.

    `now` counts seconds since 1970. Raises UnknownKey for a token that names a key which `keys`
    does not have, so that its owner may be asked for newer ones, TokenError for every other
    refusal, and nothing else, whatever `token` is.
    """
    try:
        verified = _verified_payload(token, keys, expected)
        _check_names(verified.claims, expected)
        _check_times(verified.claims, now, expected)
    except TokenError:
        raise
    except Exception:
        # Whatever a hostile token makes a library raise, the answer is the same refusal. The cause
        # is dropped on purpose: it may quote the token.
        raise TokenError from None
    return verified


def _verified_payload(
    token: object, keys: Mapping[str, VerifyingKey], expected: Expected
) -> Verified:
    if not isinstance(token, str) or len(token) > _MAX_LENGTH or not token.isascii():
        raise TokenError
    segments = token.split(".")
    if len(segments) != 3:
        raise TokenError
    header_bytes, payload_bytes, signature = (base64url.decode(segment) for segment in segments)
    header = _object(header_bytes)
    if not header.keys() <= _HEADER_MEMBERS.union(expected.ignored_header):
        raise TokenError
    if header.get("typ") not in expected.types:
        raise TokenError
    kid = header.get("kid", expected.kid_if_none)
    if not isinstance(kid, str):
        raise TokenError
    key = keys.get(kid)
    if key is None:
        raise UnknownKey
    if header.get("alg") != key.algorithm:
        raise TokenError
    signed = token.rpartition(".")[0].encode()
    if key.key.verify(signed, signature) is not True:
        raise TokenError
    return Verified(_object(payload_bytes), key)


def _check_names(claims: Mapping[str, object], expected: Expected) -> None:
    for name in expected.required:
        value = claims.get(name)
        if not isinstance(value, str) or not 0 < len(value) <= 255 or not value.isprintable():
            raise TokenError
        if not value.isascii():
            raise TokenError
    if claims.get("iss") != expected.issuer:
        raise TokenError
    named = claims.get("aud")
    audiences = [named] if isinstance(named, str) else named
    if not isinstance(audiences, list) or not all(isinstance(item, str) for item in audiences):
        raise TokenError
    if not any(audience in expected.audiences for audience in audiences):
        raise TokenError


def _check_times(claims: Mapping[str, object], now: float, expected: Expected) -> None:
    expires, issued = _time(claims.get("exp")), _time(claims.get("iat"))
    if now >= expires + expected.leeway or issued > now + _MAX_SKEW or issued > expires:
        raise TokenError
    if expected.max_lifetime is not None and expires - issued > expected.max_lifetime:
        raise TokenError
    if "nbf" in claims and _time(claims["nbf"]) > now + expected.leeway:
        raise TokenError


def _time(value: object) -> float:
    # bool is an int to Python, and "1e9" in quotes a number to python-jose.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _MAX_TIME:
        raise TokenError
    return value


def _object(data: bytes) -> Mapping[str, object]:
    value = strict_json.loads(data)
    if not isinstance(value, dict):
        raise TokenError
    return value
