"""Keys of signed tokens: made, read and written, each pinned to exactly one algorithm.

What a key is good for is decided when it is read, never by a token: its type, its curve or size,
and what its owner says it is for. Built once; from text for each signature is far slower
(RFC 7517, 7518, 7638).
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, get_args

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
)
from jose import jwk
from jose.backends.base import Key

from authapi.crypto import base64url
from authapi.errors import ConfigurationError, KeyRefused

Algorithm = Literal["ES256", "RS256"]
ALGORITHMS: Final[tuple[Algorithm, ...]] = get_args(Algorithm)

_OWN_RSA_BITS = 3072
"""Of keys that we make: 128 bits of strength (NIST SP 800-57, table 2; OWASP ASVS 11.2.3)."""
_LEAST_RSA_BITS, _MOST_RSA_BITS = 2048, 8192
"""Of keys that others sign with: RFC 7518, section 3.3, and what a signature check may cost us."""
_MAX_KID = 255

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey


@dataclass(frozen=True, slots=True)
class VerifyingKey:
    """A public key pinned to one algorithm, found by its `kid`."""

    kid: str
    algorithm: Algorithm
    jwk: Mapping[str, str]
    """The public members only, ready for a JWK set (RFC 7517)."""
    key: Key = field(repr=False)


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key and its public half."""

    verifying: VerifyingKey
    key: Key = field(repr=False)


def new_private_key(algorithm: Algorithm) -> bytes:
    """A new private key for `algorithm`, as PKCS #8 in DER. RSA takes a good part of a second."""
    private: PrivateKey = (
        ec.generate_private_key(ec.SECP256R1())
        if algorithm == "ES256"
        else rsa.generate_private_key(public_exponent=65537, key_size=_OWN_RSA_BITS)
    )
    return private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


def read_private_key(der: bytes) -> SigningKey:
    """The key that `new_private_key` gave; its `kid` is its thumbprint (RFC 7638).

    Raises KeyRefused for what is no such key, ConfigurationError if python-jose runs on a slow
    fallback.
    """
    if not jwk.ECKey.__module__.endswith("cryptography_backend"):
        raise ConfigurationError("python-jose must run on the cryptography package; install it")
    try:
        private = load_der_private_key(der, password=None)
    except (ValueError, TypeError):
        raise KeyRefused("no private key") from None
    if not isinstance(private, PrivateKey):
        raise KeyRefused("neither EC nor RSA")
    public = private.public_key()
    algorithm = _algorithm_of(public, least=_OWN_RSA_BITS)
    members = _members_of(public)
    kid = thumbprint(members)
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return SigningKey(
        verifying=VerifyingKey(
            kid=kid,
            algorithm=algorithm,
            jwk={**members, "kid": kid, "alg": algorithm, "use": "sig"},
            key=jwk.construct(_pem(public), algorithm),
        ),
        key=jwk.construct(pem, algorithm),
    )


def read_jwk(members: object) -> VerifyingKey:
    """The public key that a JWK spells, of anybody's JWK set.

    Raises KeyRefused for one that is not meant for ES256 or RS256 signatures, is too weak or too
    large, has a point that is not on its curve, has private members, or cannot be told by a `kid`.
    """
    if not isinstance(members, dict):
        raise KeyRefused("no object")
    kid = members.get("kid")
    if not isinstance(kid, str) or not 0 < len(kid) <= _MAX_KID or not kid.isprintable():
        raise KeyRefused("no usable kid")
    if "d" in members:
        raise KeyRefused("private")
    operations = members.get("key_ops", ["verify"])
    if members.get("use", "sig") != "sig" or not isinstance(operations, list):
        raise KeyRefused("not for signatures")
    if "verify" not in operations:
        raise KeyRefused("not for signatures")
    try:
        public = _public_key(members)
    except (ValueError, TypeError, KeyError):
        raise KeyRefused("no public key") from None
    algorithm = _algorithm_of(public, least=_LEAST_RSA_BITS)
    if members.get("alg", algorithm) != algorithm:
        raise KeyRefused("another algorithm")
    return VerifyingKey(
        kid=kid,
        algorithm=algorithm,
        jwk={**_members_of(public), "kid": kid, "alg": algorithm, "use": "sig"},
        key=jwk.construct(_pem(public), algorithm),
    )


def key_ring(keys: Iterable[VerifyingKey]) -> Mapping[str, VerifyingKey]:
    """`keys` by `kid`, as `jws.verify` wants them."""
    return {key.kid: key for key in keys}


def thumbprint(members: Mapping[str, str]) -> str:
    """The SHA-256 thumbprint of a public JWK of only its required members (RFC 7638)."""
    text = json.dumps(dict(sorted(members.items())), separators=(",", ":"))
    return base64url.encode(hashlib.sha256(text.encode()).digest())


def _public_key(members: Mapping[str, object]) -> PublicKey:
    # cryptography refuses points off the curve and bad exponents, but not an even modulus.
    if members["kty"] == "EC" and members["crv"] == "P-256":
        point = ec.EllipticCurvePublicNumbers(
            _number(members["x"], 32), _number(members["y"], 32), ec.SECP256R1()
        )
        return point.public_key()
    if members["kty"] == "RSA":
        exponent, modulus = _number(members["e"], 8), _number(members["n"], _MOST_RSA_BITS // 8)
        if modulus % 2 == 0:
            raise ValueError("an even modulus")
        return rsa.RSAPublicNumbers(exponent, modulus).public_key()
    raise ValueError("neither P-256 nor RSA")


def _number(value: object, most_bytes: int) -> int:
    if not isinstance(value, str):
        raise ValueError("no number")
    data = base64url.decode(value)
    if len(data) > most_bytes + 1:  # some writers put a zero byte in front
        raise ValueError("too long")
    return int.from_bytes(data)


def _algorithm_of(public: PublicKey, *, least: int) -> Algorithm:
    if isinstance(public, ec.EllipticCurvePublicKey):
        if not isinstance(public.curve, ec.SECP256R1):
            raise KeyRefused("another curve than P-256")
        return "ES256"
    if not least <= public.key_size <= _MOST_RSA_BITS:
        raise KeyRefused("RSA of another size")
    return "RS256"


def _members_of(public: PublicKey) -> dict[str, str]:
    if isinstance(public, ec.EllipticCurvePublicKey):
        point = public.public_numbers()
        x, y = (base64url.encode(number.to_bytes(32)) for number in (point.x, point.y))
        return {"kty": "EC", "crv": "P-256", "x": x, "y": y}
    numbers = public.public_numbers()
    n, e = (
        base64url.encode(number.to_bytes((number.bit_length() + 7) // 8))
        for number in (numbers.n, numbers.e)
    )
    return {"kty": "RSA", "n": n, "e": e}


def _pem(key: PublicKey) -> bytes:
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
