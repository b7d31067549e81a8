"""Signed tokens: the only module that speaks python-jose, and how it is spoken to.

python-jose lets the token choose: it accepts unknown `crit` headers, duplicate members, missing
claims, several spellings of one signature, and answers some garbage with RecursionError, TypeError
or OverflowError. So `verify` reads header and claims itself, strictly, picks exactly one key pinned
to exactly one algorithm, and leaves to python-jose only what it is good at: the signature. Each
refusal is the same `TokenError` (RFC 7515, RFC 7519, RFC 8725, RFC 9068).
"""

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from jose import jwk, jwt
from jose.backends.base import Key

from authapi.crypto import strict_json
from authapi.errors import ConfigurationError, TokenError

ALGORITHM: Final = "ES256"
ACCESS_TOKEN: Final = "at+jwt"
"""The `typ` of access tokens (RFC 9068, section 2.1)."""

_MAX_LENGTH = 8192
_MAX_SKEW = 30
"""Seconds that `iat` may lie ahead, because clocks of several hosts differ."""
_MAX_TIME = 1 << 53
_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_SEGMENT = re.compile(r"[A-Za-z0-9_-]+")
_HEADER_MEMBERS = frozenset({"alg", "typ", "kid"})


@dataclass(frozen=True, slots=True)
class VerifyingKey:
    """A public key pinned to one algorithm, found by its `kid` (RFC 7638 thumbprint)."""

    kid: str
    algorithm: str
    jwk: Mapping[str, str]
    """The public members only, ready for a JWK set (RFC 7517)."""
    key: Key = field(repr=False)


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key, prepared once: building it from text for each signature is far slower."""

    verifying: VerifyingKey
    key: Key = field(repr=False)


def derive_signing_key(secret: bytes) -> SigningKey:
    """The ES256 key that belongs to `secret`: every process with the same secret has the same key.

    HKDF-SHA256 (RFC 5869) gives 384 bits, reduced to the range of private keys with negligible
    bias (FIPS 186-5, A.2.1). Raises ConfigurationError if python-jose runs on a slow fallback.
    """
    if not jwk.ECKey.__module__.endswith("cryptography_backend"):
        raise ConfigurationError("python-jose must run on the cryptography package; install it")
    material = HKDF(
        algorithm=hashes.SHA256(), length=48, salt=None, info=b"authapi signing key ES256 1"
    ).derive(secret)
    scalar = int.from_bytes(material) % (_P256_ORDER - 1) + 1
    private = ec.derive_private_key(scalar, ec.SECP256R1())
    numbers = private.public_key().public_numbers()
    public = {
        "crv": "P-256",
        "kty": "EC",
        "x": _encode(numbers.x.to_bytes(32)),
        "y": _encode(numbers.y.to_bytes(32)),
    }
    kid = _encode(hashlib.sha256(json.dumps(public, separators=(",", ":")).encode()).digest())
    return SigningKey(
        verifying=VerifyingKey(
            kid=kid,
            algorithm=ALGORITHM,
            jwk={**public, "kid": kid, "alg": ALGORITHM, "use": "sig"},
            key=jwk.construct(_pem(private.public_key()), ALGORITHM),
        ),
        key=jwk.construct(
            private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), ALGORITHM
        ),
    )


def key_ring(keys: Iterable[VerifyingKey]) -> Mapping[str, VerifyingKey]:
    """`keys` by `kid`, as `verify` wants them."""
    return {key.kid: key for key in keys}


def sign(claims: Mapping[str, object], key: SigningKey, *, typ: str = ACCESS_TOKEN) -> str:
    """`claims` as a compact JWS. Times are seconds since 1970, as integers."""
    return jwt.encode(
        dict(claims),  # python-jose writes into what it is given
        key.key,
        algorithm=key.verifying.algorithm,
        headers={"kid": key.verifying.kid, "typ": typ},
    )


def verify(
    token: object,
    *,
    keys: Mapping[str, VerifyingKey],
    issuer: str,
    audience: str,
    now: float,
    typ: str = ACCESS_TOKEN,
    max_lifetime: int | None = None,
) -> Mapping[str, object]:
    """The claims of `token`, if every one of them and the signature hold at `now`.

    `now` counts seconds since 1970; `max_lifetime` bounds `exp - iat`, in seconds. `iss`, `sub`,
    `aud`, `exp`, `iat` and `jti` must be there. Raises TokenError for every refusal, and nothing
    else, whatever `token` is.
    """
    try:
        claims = _verified_payload(token, keys, typ)
        _check_names(claims, issuer, audience)
        _check_times(claims, now, max_lifetime)
    except TokenError:
        raise
    except Exception:
        # Whatever a hostile token makes a library raise, the answer is the same refusal. The cause
        # is dropped on purpose: it may quote the token.
        raise TokenError from None
    return claims


def _verified_payload(
    token: object, keys: Mapping[str, VerifyingKey], typ: str
) -> Mapping[str, object]:
    if not isinstance(token, str) or len(token) > _MAX_LENGTH or not token.isascii():
        raise TokenError
    segments = token.split(".")
    if len(segments) != 3:
        raise TokenError
    header_bytes, payload_bytes, signature = (_decode(segment) for segment in segments)
    header = _object(header_bytes)
    if not header.keys() <= _HEADER_MEMBERS or header.get("typ") != typ:
        raise TokenError
    kid = header.get("kid")
    key = keys.get(kid) if isinstance(kid, str) else None
    if key is None or header.get("alg") != key.algorithm:
        raise TokenError
    signed = token.rpartition(".")[0].encode()
    if key.key.verify(signed, signature) is not True:
        raise TokenError
    return _object(payload_bytes)


def _check_names(claims: Mapping[str, object], issuer: str, audience: str) -> None:
    for name in ("iss", "sub", "jti"):
        value = claims.get(name)
        if not isinstance(value, str) or not 0 < len(value) <= 255 or not value.isprintable():
            raise TokenError
        if not value.isascii():
            raise TokenError
    if claims["iss"] != issuer:
        raise TokenError
    named = claims.get("aud")
    audiences = [named] if isinstance(named, str) else named
    if not isinstance(audiences, list) or not all(isinstance(item, str) for item in audiences):
        raise TokenError
    if audience not in audiences:
        raise TokenError


def _check_times(claims: Mapping[str, object], now: float, max_lifetime: int | None) -> None:
    expires, issued = _time(claims.get("exp")), _time(claims.get("iat"))
    if now >= expires or issued > now + _MAX_SKEW or issued > expires:
        raise TokenError
    if max_lifetime is not None and expires - issued > max_lifetime:
        raise TokenError
    if "nbf" in claims and _time(claims["nbf"]) > now:
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


def _pem(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(segment: str) -> bytes:
    # Only the one spelling that encoding gives: padding, the other alphabet, white space and a
    # changed last character are other texts for the same token.
    if not _SEGMENT.fullmatch(segment):
        raise TokenError
    try:
        data = base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
    except binascii.Error:
        raise TokenError from None
    if _encode(data) != segment:
        raise TokenError
    return data
