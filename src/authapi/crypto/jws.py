"""Signs and verifies JWTs (RFC 7515, 7519, 8725, 9068).

python-jose trusts the token too much: it accepts unknown `crit` headers, duplicate members, missing
claims and several encodings of one signature, and raises RecursionError, TypeError or OverflowError
for some malformed tokens. `verify` therefore parses header and claims itself, strictly, selects a
key that is pinned to its algorithm, and uses python-jose only to check the signature. Every
rejection is a TokenError, with the name of a `Check` for the log.

Tokens of this service must have exactly the header that `sign` writes. Tokens of other issuers are
read according to RFC 7515: unknown header members are ignored, `crit` is rejected, and `jku`,
`jwk`, `x5u` and `x5c` are never used.
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
"""Claims that name the client: RFC 9068, section 2.2; OpenID Connect Core 1.0, section 2."""
TENANT: Final = "{tenantid}"
"""A placeholder in issuers for the claim `tid`: Microsoft Entra has one key set for all tenants."""

MAX_LENGTH: Final = 8192
"""The default maximum length of a token, in characters."""
_MAX_SKEW = 30
"""Seconds that `iat` may be in the future, because the clocks of hosts differ."""
_MAX_TIME = 1 << 53
_MAX_TRIED = 8
"""The maximum number of keys that are tried for a token without `kid`, a signature check each."""
_HEADER_MEMBERS = frozenset({"alg", "typ", "kid"})
_REFUSED_MEMBERS = frozenset({"crit", "b64"})
"""Extensions that change the meaning of the token (RFC 7515, section 4.1.11; RFC 7797)."""


class Check(StrEnum):
    """The checks of a token, in the order of `verify`."""

    FORMAT = "format"
    HEADER = "header"
    TYPE = "typ"
    ALGORITHM = "alg"
    KEY = "key"
    SIGNATURE = "signature"
    IDENTIFIERS = "identifiers"
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
class ValidationRules:
    """The rules by which a service validates tokens (RFC 8725, section 3.12)."""

    issuer: str
    """The exact value of `iss`, in which `TENANT` stands for the claim `tid`."""
    audiences: Collection[str] | None
    """`aud` must contain one of these. None: tokens must not have `aud`."""
    types: Collection[str | None] = (ACCESS_TOKEN,)
    """Allowed values of `typ`; None allows its absence. Compared exactly for tokens of this
    service, and in the form of `media_type` with `external`."""
    identifiers: Collection[str] = ("iss", "sub", "jti")
    """Claims that must be present as strings of 1 to 255 printable ASCII characters."""
    algorithms: Collection[str] = ()
    """Allowed values of `alg`; if empty, the keys decide."""
    external: bool = False
    """Whether tokens are of another issuer: their header may have unknown members and lack
    `kid`."""
    clients: Collection[str] = ()
    """The clients whose tokens are accepted; if empty, all."""
    client_claims: Collection[str] = CLIENT_CLAIMS
    """Claims that name the client. Each of them that is present must name one of `clients`."""
    claims: Mapping[str, object] = field(default_factory=dict)
    """Claims that must be present with this value and type."""
    tenants: Collection[str] = ()
    """Allowed values of `tid` if the issuer contains `TENANT`; if empty, all."""
    leeway: float = 0
    """Seconds for which a token is accepted after `exp`."""
    nbf_leeway: float = 0
    """Seconds that `nbf` may be in the future."""
    iat_leeway: float = _MAX_SKEW
    """Seconds that `iat` may be in the future."""
    max_lifetime: int | None = None
    """The maximum of `exp - iat`, in seconds."""
    max_length: int = MAX_LENGTH
    """The maximum length of a token, in characters."""


@dataclass(frozen=True, slots=True)
class VerifiedToken:
    """The claims of a token, and the key that verified its signature."""

    claims: Mapping[str, object]
    key: VerifyingKey


@dataclass(frozen=True, slots=True)
class UnverifiedToken:
    """The parts of a compact JWS, before any of them is verified."""

    header: Mapping[str, object]
    payload: bytes = field(repr=False)
    signature: bytes = field(repr=False)
    signing_input: bytes = field(repr=False)
    """Header and payload as encoded (RFC 7515, section 5.1)."""


def sign(claims: Mapping[str, object], key: SigningKey) -> str:
    """Returns an access token with `claims`. Times must be integers, in seconds since 1970."""
    return jwt.encode(
        dict(claims),  # python-jose modifies its argument
        key.key,
        algorithm=key.verifying.algorithm,
        headers={"kid": key.verifying.kid, "typ": ACCESS_TOKEN},
    )


def verify(
    token: object, *, keys: Mapping[str, VerifyingKey], expected: ValidationRules, now: float
) -> VerifiedToken:
    """Returns the claims of `token` if its header, signature and claims are valid at `now`.

    `now` is in seconds since 1970. Raises UnknownKey if the key of the token is not among `keys`,
    so that the caller can load newer keys, and TokenError for every other invalid token. No value
    of `token` raises another error.
    """
    verified = verify_signature(token, keys=keys, expected=expected)
    check_claims(verified, expected=expected, now=now)
    return verified


def verify_signature(
    token: object, *, keys: Mapping[str, VerifyingKey], expected: ValidationRules
) -> VerifiedToken:
    """Returns the claims of `token` if its header and signature are valid. Claims are not checked.

    Raises the errors of `verify`.
    """
    parts = parse(token, expected)
    for check, passes in HEADER_CHECKS:
        if not passes(parts, expected):
            raise TokenError(check)
    key = find_key(parts, keys, expected)
    return VerifiedToken(parse_claims(parts), key)


def check_claims(verified: VerifiedToken, *, expected: ValidationRules, now: float) -> None:
    """Raises TokenError unless every claim is valid at `now`, in seconds since 1970."""
    for check, passes in CLAIM_CHECKS:
        if not passes(verified.claims, expected, now):
            raise TokenError(check)
    if not is_key_for_issuer(verified, expected):
        raise TokenError(Check.KEY_ISSUER)


def parse(token: object, expected: ValidationRules) -> UnverifiedToken:
    """Returns the parts of `token`.

    Raises TokenError unless it is a compact JWS with a JSON object as header.
    """
    try:
        return _parts(token, expected)
    except Exception:
        # A hostile token may make a library raise any error. The cause is dropped on purpose,
        # because it may contain the token.
        raise TokenError(Check.FORMAT) from None


def parse_claims(parts: UnverifiedToken) -> Mapping[str, object]:
    """Returns the claims. Raises TokenError unless the payload is a JSON object."""
    try:
        return _object(parts.payload)
    except Exception:
        raise TokenError(Check.FORMAT) from None


def find_key(
    parts: UnverifiedToken, keys: Mapping[str, VerifyingKey], expected: ValidationRules
) -> VerifyingKey:
    """Returns the key that verifies the signature of a token.

    Raises UnknownKey if that key is not among `keys`. Raises TokenError if the token has no `kid`
    although it must, if its key is not for its `alg`, or if the signature is invalid.
    """
    kid, algorithm = parts.header.get("kid"), parts.header.get("alg")
    if "kid" not in parts.header and expected.external:
        return _find_key_without_kid(parts, keys.values())
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
    """Returns `value` of `typ` in a canonical form (RFC 7515, section 4.1.9; RFC 6838, 4.2)."""
    short = value.lower().removeprefix("application/")
    return value.lower() if "/" in short else short


def _parts(token: object, expected: ValidationRules) -> UnverifiedToken:
    if not isinstance(token, str) or len(token) > expected.max_length or not token.isascii():
        raise ValueError("not a token")
    segments = token.split(".")
    if len(segments) != 3:
        raise ValueError("not a compact JWS")
    header, payload, signature = (base64url.decode(segment) for segment in segments)
    return UnverifiedToken(_object(header), payload, signature, token.rpartition(".")[0].encode())


def _find_key_without_kid(parts: UnverifiedToken, keys: Iterable[VerifyingKey]) -> VerifyingKey:
    # RFC 7515, section 6: without `kid`, the key is the only one for this `alg`, or one of the keys
    # without `kid`. If none of them verifies the signature, the issuer may have published a newer
    # one.
    algorithm = parts.header.get("alg")
    candidates = [key for key in keys if key.for_algorithm(algorithm) is not None]
    if len(candidates) > 1:
        candidates = [key for key in candidates if not key.has_kid][:_MAX_TRIED]
        if not candidates:
            raise TokenError(Check.KEY)
    for key in candidates:
        if _is_signed_by(key, parts):
            return key
    raise UnknownKey(Check.SIGNATURE if candidates else Check.KEY)


def _is_signed_by(key: VerifyingKey, parts: UnverifiedToken) -> bool:
    verifier = key.for_algorithm(parts.header.get("alg"))
    try:
        return (
            verifier is not None and verifier.verify(parts.signing_input, parts.signature) is True
        )
    except Exception:
        return False  # a malformed signature may raise any error, as in `parse`


def _has_allowed_members(parts: UnverifiedToken, expected: ValidationRules) -> bool:
    if expected.external:
        return parts.header.keys().isdisjoint(_REFUSED_MEMBERS)
    return parts.header.keys() <= _HEADER_MEMBERS


def _has_allowed_type(parts: UnverifiedToken, expected: ValidationRules) -> bool:
    if "typ" not in parts.header:
        return None in expected.types
    value = parts.header["typ"]
    if not isinstance(value, str):
        return False
    return (media_type(value) if expected.external else value) in expected.types


def _has_allowed_algorithm(parts: UnverifiedToken, expected: ValidationRules) -> bool:
    if not expected.algorithms:
        return True
    algorithm = parts.header.get("alg")
    return isinstance(algorithm, str) and algorithm in expected.algorithms


def _has_identifiers(claims: Mapping[str, object], expected: ValidationRules, _: float) -> bool:
    return all(_is_identifier(claims.get(name)) for name in expected.identifiers)


def _is_identifier(value: object) -> bool:
    return (
        isinstance(value, str) and 0 < len(value) <= 255 and value.isascii() and value.isprintable()
    )


def has_expected_issuer(claims: Mapping[str, object], expected: ValidationRules, _: float) -> bool:
    """Returns whether `iss` is the expected issuer, or the issuer of an allowed tenant."""
    issuer = claims.get("iss")
    if TENANT not in expected.issuer:
        return issuer == expected.issuer
    tenant = claims.get("tid")
    if read_uuid(tenant) is None or (expected.tenants and tenant not in expected.tenants):
        return False
    return issuer == expected.issuer.replace(TENANT, str(tenant))


def is_key_for_issuer(verified: VerifiedToken, expected: ValidationRules) -> bool:
    """Returns whether the key may sign for this `iss`.

    In a key set that tenants share, a key may belong to the issuer of one tenant.
    """
    owner = verified.key.issuer
    if TENANT not in expected.issuer or owner is None or TENANT in owner:
        return True
    return owner == verified.claims.get("iss")


def _has_allowed_audience(
    claims: Mapping[str, object], expected: ValidationRules, _: float
) -> bool:
    if expected.audiences is None:
        return "aud" not in claims
    audience = claims.get("aud")
    audiences = [audience] if isinstance(audience, str) else audience
    if not isinstance(audiences, list) or not all(isinstance(item, str) for item in audiences):
        return False
    return any(item in expected.audiences for item in audiences)


def _has_allowed_client(claims: Mapping[str, object], expected: ValidationRules, _: float) -> bool:
    if not expected.clients:
        return True
    clients = [claims[name] for name in expected.client_claims if name in claims]
    return bool(clients) and all(
        isinstance(client, str) and client in expected.clients for client in clients
    )


def _has_required_claims(claims: Mapping[str, object], expected: ValidationRules, _: float) -> bool:
    return all(
        type(claims.get(name)) is type(value) and claims.get(name) == value
        for name, value in expected.claims.items()
    )


def _is_unexpired(claims: Mapping[str, object], expected: ValidationRules, now: float) -> bool:
    expires = _time(claims.get("exp"))
    return expires is not None and now < expires + expected.leeway


def _is_issued(claims: Mapping[str, object], expected: ValidationRules, now: float) -> bool:
    issued, expires = _time(claims.get("iat")), _time(claims.get("exp"))
    if issued is None or expires is None:
        return False
    return issued <= now + expected.iat_leeway and issued <= expires


def _is_within_lifetime(claims: Mapping[str, object], expected: ValidationRules, _: float) -> bool:
    if expected.max_lifetime is None:
        return True
    issued, expires = _time(claims.get("iat")), _time(claims.get("exp"))
    if issued is None or expires is None:
        return False
    return expires - issued <= expected.max_lifetime


def _is_in_force(claims: Mapping[str, object], expected: ValidationRules, now: float) -> bool:
    if "nbf" not in claims:
        return True
    not_before = _time(claims["nbf"])
    return not_before is not None and not_before <= now + expected.nbf_leeway


HEADER_CHECKS: Sequence[tuple[Check, Callable[[UnverifiedToken, ValidationRules], bool]]] = (
    (Check.HEADER, _has_allowed_members),
    (Check.TYPE, _has_allowed_type),
    (Check.ALGORITHM, _has_allowed_algorithm),
)
CLAIM_CHECKS: Sequence[
    tuple[Check, Callable[[Mapping[str, object], ValidationRules, float], bool]]
] = (
    (Check.IDENTIFIERS, _has_identifiers),
    (Check.ISSUER, has_expected_issuer),
    (Check.AUDIENCE, _has_allowed_audience),
    (Check.CLIENT, _has_allowed_client),
    (Check.REQUIRED, _has_required_claims),
    (Check.EXPIRY, _is_unexpired),
    (Check.ISSUED, _is_issued),
    (Check.LIFETIME, _is_within_lifetime),
    (Check.NOT_BEFORE, _is_in_force),
)
"""The checks raise nothing, for any value of a claim."""


def _time(value: object) -> float | None:
    # Python's bool is an int, and python-jose accepts numbers in strings.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _MAX_TIME:
        return None
    return value


def _object(data: bytes) -> Mapping[str, object]:
    value = strict_json.loads(data)
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value
