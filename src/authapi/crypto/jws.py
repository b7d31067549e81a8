"""Signed tokens, and how python-jose is spoken to.

python-jose lets the token choose: it accepts unknown `crit` headers, duplicate members, missing
claims, several spellings of one signature, and answers some garbage with RecursionError, TypeError
or OverflowError. So `verify` reads header and claims itself, strictly, picks a key pinned to its
algorithm, and leaves to python-jose only what it is good at: the signature. Each refusal is the
same `TokenError`, with the name of a `Check` for the log (RFC 7515, 7519, 8725, 9068).

Our own tokens have exactly the header that `sign` writes. Those of other issuers are read as
RFC 7515 has it: unknown header members are ignored, `crit` is refused, and `jku`, `jwk`, `x5u` and
`x5c` are never followed.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from jose import jwt

from authapi.crypto import base64url, strict_json
from authapi.crypto.ids import read_uuid
from authapi.crypto.jwk import SigningKey, VerifyingKey
from authapi.errors import TokenError, UnknownKey

ACCESS_TOKEN: Final = "at+jwt"
"""The `typ` of access tokens (RFC 9068, section 2.1)."""
CLIENT_CLAIMS: Final = ("client_id", "azp")
"""Who asked for a token: RFC 9068, section 2.2; OpenID Connect Core 1.0, section 2."""
TENANT: Final = "{tenantid}"
"""Stands in an issuer for the claim `tid`: Microsoft Entra has one key set for all tenants."""

MAX_LENGTH: Final = 8192
"""Characters of a token, unless a setting allows more."""
_MAX_SKEW = 30
"""Seconds that `iat` may lie ahead, because clocks of several hosts differ."""
_MAX_TIME = 1 << 53
_MAX_TRIED = 8
"""Keys that are tried for a token that names none; each costs a signature check."""
_HEADER_MEMBERS = frozenset({"alg", "typ", "kid"})
_REFUSED_MEMBERS = frozenset({"crit", "b64"})
"""Extensions that change what the rest means (RFC 7515, section 4.1.11; RFC 7797)."""


class Check(StrEnum):
    """What has to hold of a token, in the order in which `verify` looks."""

    FORMAT = "format"
    HEADER = "header"
    TYPE = "typ"
    ALGORITHM = "alg"
    KEY = "key"
    SIGNATURE = "signature"
    NAMES = "names"
    ISSUER = "iss"
    AUDIENCE = "aud"
    CLIENT = "client"
    REQUIRED = "required claims"
    EXPIRY = "exp"
    ISSUED = "iat"
    LIFETIME = "lifetime"
    NOT_BEFORE = "nbf"
    KEY_ISSUER = "issuer of the key"


@dataclass(frozen=True, slots=True)
class Expected:
    """What a token has to be for the service that reads it."""

    issuer: str
    """What `iss` has to be, letter by letter. `TENANT` in it stands for the claim `tid`."""
    audiences: Collection[str] | None
    """One of these is enough. None: tokens have no `aud`, and one that has it is for others."""
    types: Collection[str | None] = (ACCESS_TOKEN,)
    """What `typ` may be; None stands for its absence. To the letter for our own tokens, as
    `media_type` gives it for those of others."""
    required: Collection[str] = ("iss", "sub", "jti")
    """Claims that must be there, as text, besides `exp` and `iat`."""
    algorithms: Collection[str] = ()
    """What `alg` may be, if the keys alone do not say it."""
    foreign: bool = False
    """Whether another issuer writes the header: it may have members that mean nothing to us, and
    lack `kid`."""
    clients: Collection[str] = ()
    """Whose tokens are accepted, if not those of every client."""
    client_claims: Collection[str] = CLIENT_CLAIMS
    """Where the client stands: each of these that is there must name one of `clients`."""
    claims: Mapping[str, object] = field(default_factory=dict)
    """Claims that must be there with this value and type."""
    tenants: Collection[str] = ()
    """What `tid` may be where the issuer has `TENANT`, if not every tenant."""
    leeway: float = 0
    """Seconds that `exp` may be over."""
    nbf_leeway: float = 0
    """Seconds that `nbf` may lie ahead."""
    iat_leeway: float = _MAX_SKEW
    """Seconds that `iat` may lie ahead."""
    max_lifetime: int | None = None
    """Bounds `exp - iat`, in seconds."""
    max_length: int = MAX_LENGTH
    """Characters of a token."""


@dataclass(frozen=True, slots=True)
class Verified:
    """What a token says, and whose signature vouches for it."""

    claims: Mapping[str, object]
    key: VerifyingKey


@dataclass(frozen=True, slots=True)
class Parts:
    """A compact JWS, taken apart; nothing of it is verified."""

    header: Mapping[str, object]
    payload: bytes = field(repr=False)
    signature: bytes = field(repr=False)
    signed: bytes = field(repr=False)


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

    `now` counts seconds since 1970. Raises UnknownKey for a token whose key is not among `keys`, so
    that its owner may be asked for newer ones, TokenError for every other refusal, and nothing
    else for any value of `token`.
    """
    verified = verify_signature(token, keys=keys, expected=expected)
    check_claims(verified, expected=expected, now=now)
    return verified


def verify_signature(
    token: object, *, keys: Mapping[str, VerifyingKey], expected: Expected
) -> Verified:
    """What `token` says, if its header and signature hold; its claims may still be for others.

    Raises like `verify`.
    """
    parts = split(token, expected)
    for check, holds in HEADER_CHECKS:
        if not holds(parts, expected):
            raise TokenError(check)
    key = signing_key(parts, keys, expected)
    return Verified(claims_of(parts), key)


def check_claims(verified: Verified, *, expected: Expected, now: float) -> None:
    """Raise TokenError unless every claim holds at `now`."""
    for check, holds in CLAIM_CHECKS:
        if not holds(verified.claims, expected, now):
            raise TokenError(check)
    if not key_may_sign(verified, expected):
        raise TokenError(Check.KEY_ISSUER)


def split(token: object, expected: Expected) -> Parts:
    """`token` as parts. Raises TokenError for what is no compact JWS with a JSON header."""
    try:
        return _parts(token, expected)
    except Exception:
        # Whatever a hostile token makes a library raise, the answer is the same refusal. The cause
        # is dropped on purpose: it may quote the token.
        raise TokenError(Check.FORMAT) from None


def claims_of(parts: Parts) -> Mapping[str, object]:
    """The claims, if they are a JSON object. Raises TokenError."""
    try:
        return _object(parts.payload)
    except Exception:
        raise TokenError(Check.FORMAT) from None


def signing_key(parts: Parts, keys: Mapping[str, VerifyingKey], expected: Expected) -> VerifyingKey:
    """The key whose signature this is. Raises UnknownKey, or TokenError."""
    kid, algorithm = parts.header.get("kid"), parts.header.get("alg")
    if "kid" not in parts.header and expected.foreign:
        return _unnamed_key(parts, keys.values())
    if not isinstance(kid, str):
        raise TokenError(Check.KEY)
    key = keys.get(kid)
    if key is None:
        raise UnknownKey(Check.KEY)
    if key.for_algorithm(algorithm) is None:
        raise TokenError(Check.ALGORITHM)
    if not _is_signed_by(key, parts):
        raise TokenError(Check.SIGNATURE)
    return key


def media_type(value: str) -> str:
    """`value` of `typ` in one spelling (RFC 7515, section 4.1.9; RFC 6838, section 4.2)."""
    short = value.lower().removeprefix("application/")
    return value.lower() if "/" in short else short


def _parts(token: object, expected: Expected) -> Parts:
    if not isinstance(token, str) or len(token) > expected.max_length or not token.isascii():
        raise ValueError("no token")
    segments = token.split(".")
    if len(segments) != 3:
        raise ValueError("no compact JWS")
    header, payload, signature = (base64url.decode(segment) for segment in segments)
    return Parts(_object(header), payload, signature, token.rpartition(".")[0].encode())


def _unnamed_key(parts: Parts, keys: Iterable[VerifyingKey]) -> VerifyingKey:
    # RFC 7515, section 6: without `kid`, the key is the only one that fits `alg`, or one of those
    # that have no name either. One that is still to be published may be meant.
    algorithm = parts.header.get("alg")
    fitting = [key for key in keys if key.for_algorithm(algorithm) is not None]
    if len(fitting) > 1:
        fitting = [key for key in fitting if not key.is_named][:_MAX_TRIED]
        if not fitting:
            raise TokenError(Check.KEY)
    for key in fitting:
        if _is_signed_by(key, parts):
            return key
    raise UnknownKey(Check.SIGNATURE if fitting else Check.KEY)


def _is_signed_by(key: VerifyingKey, parts: Parts) -> bool:
    verifier = key.for_algorithm(parts.header.get("alg"))
    try:
        return verifier is not None and verifier.verify(parts.signed, parts.signature) is True
    except Exception:
        return False  # a signature that is none; see `split`


def _header_is_known(parts: Parts, expected: Expected) -> bool:
    if expected.foreign:
        return parts.header.keys().isdisjoint(_REFUSED_MEMBERS)
    return parts.header.keys() <= _HEADER_MEMBERS


def _type_holds(parts: Parts, expected: Expected) -> bool:
    if "typ" not in parts.header:
        return None in expected.types
    value = parts.header["typ"]
    if not isinstance(value, str):
        return False
    return (media_type(value) if expected.foreign else value) in expected.types


def _algorithm_holds(parts: Parts, expected: Expected) -> bool:
    if not expected.algorithms:
        return True
    algorithm = parts.header.get("alg")
    return isinstance(algorithm, str) and algorithm in expected.algorithms


def _names_hold(claims: Mapping[str, object], expected: Expected, _: float) -> bool:
    return all(_is_name(claims.get(name)) for name in expected.required)


def _is_name(value: object) -> bool:
    return (
        isinstance(value, str) and 0 < len(value) <= 255 and value.isascii() and value.isprintable()
    )


def issuer_holds(claims: Mapping[str, object], expected: Expected, _: float) -> bool:
    """Whether `iss` is the expected issuer, or that of a tenant."""
    issuer = claims.get("iss")
    if TENANT not in expected.issuer:
        return issuer == expected.issuer
    tenant = claims.get("tid")
    if read_uuid(tenant) is None or (expected.tenants and tenant not in expected.tenants):
        return False
    return issuer == expected.issuer.replace(TENANT, str(tenant))


def key_may_sign(verified: Verified, expected: Expected) -> bool:
    """Whether the key may sign for this `iss`: where tenants share a key set, it may be of one."""
    owner = verified.key.issuer
    if TENANT not in expected.issuer or owner is None or TENANT in owner:
        return True
    return owner == verified.claims.get("iss")


def _audience_holds(claims: Mapping[str, object], expected: Expected, _: float) -> bool:
    if expected.audiences is None:
        return "aud" not in claims
    named = claims.get("aud")
    audiences = [named] if isinstance(named, str) else named
    if not isinstance(audiences, list) or not all(isinstance(item, str) for item in audiences):
        return False
    return any(audience in expected.audiences for audience in audiences)


def _client_holds(claims: Mapping[str, object], expected: Expected, _: float) -> bool:
    if not expected.clients:
        return True
    found = [claims[name] for name in expected.client_claims if name in claims]
    return bool(found) and all(
        isinstance(client, str) and client in expected.clients for client in found
    )


def _required_hold(claims: Mapping[str, object], expected: Expected, _: float) -> bool:
    return all(
        type(claims.get(name)) is type(value) and claims.get(name) == value
        for name, value in expected.claims.items()
    )


def _is_not_over(claims: Mapping[str, object], expected: Expected, now: float) -> bool:
    expires = _time(claims.get("exp"))
    return expires is not None and now < expires + expected.leeway


def _was_issued(claims: Mapping[str, object], expected: Expected, now: float) -> bool:
    issued, expires = _time(claims.get("iat")), _time(claims.get("exp"))
    if issued is None or expires is None:
        return False
    return issued <= now + expected.iat_leeway and issued <= expires


def _lives_short(claims: Mapping[str, object], expected: Expected, _: float) -> bool:
    if expected.max_lifetime is None:
        return True
    issued, expires = _time(claims.get("iat")), _time(claims.get("exp"))
    if issued is None or expires is None:
        return False
    return expires - issued <= expected.max_lifetime


def _has_begun(claims: Mapping[str, object], expected: Expected, now: float) -> bool:
    if "nbf" not in claims:
        return True
    begins = _time(claims["nbf"])
    return begins is not None and begins <= now + expected.nbf_leeway


HEADER_CHECKS: Sequence[tuple[Check, Callable[[Parts, Expected], bool]]] = (
    (Check.HEADER, _header_is_known),
    (Check.TYPE, _type_holds),
    (Check.ALGORITHM, _algorithm_holds),
)
CLAIM_CHECKS: Sequence[tuple[Check, Callable[[Mapping[str, object], Expected, float], bool]]] = (
    (Check.NAMES, _names_hold),
    (Check.ISSUER, issuer_holds),
    (Check.AUDIENCE, _audience_holds),
    (Check.CLIENT, _client_holds),
    (Check.REQUIRED, _required_hold),
    (Check.EXPIRY, _is_not_over),
    (Check.ISSUED, _was_issued),
    (Check.LIFETIME, _lives_short),
    (Check.NOT_BEFORE, _has_begun),
)
"""Each reads claims, and raises nothing."""


def _time(value: object) -> float | None:
    # bool is an int to Python, and "1e9" in quotes a number to python-jose.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _MAX_TIME:
        return None
    return value


def _object(data: bytes) -> Mapping[str, object]:
    value = strict_json.loads(data)
    if not isinstance(value, dict):
        raise ValueError("no JSON object")
    return value
