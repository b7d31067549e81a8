"""Keys of signed tokens: made, read and written, each pinned to exactly one algorithm.

What a key is good for is decided when it is read, never by a token: its type, its curve or size,
and what its owner says it is for. Built once; from text for each signature is far slower
(RFC 7517, 7518, 7638).

Keys that we make sign with one of `ALGORITHMS`. Keys of other issuers may be for any of
`VERIFIED_ALGORITHMS`: python-jose checks ECDSA and RSASSA-PKCS1-v1_5, and what it lacks (RSASSA-PSS
and EdDSA) is checked here with cryptography. Symmetric algorithms and `none` are not among them, so
no public key can serve as a secret.
"""

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, get_args

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
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
VERIFIED_ALGORITHMS: Final = (
    *("ES256", "ES384", "ES512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("EdDSA", "Ed25519"),
)
"""What tokens of other issuers may be signed with: RFC 7518, sections 3.3 to 3.5; RFC 8037,
section 3.1, with the curve Ed25519 only, which RFC 9864 calls by its name."""

_OWN_RSA_BITS = 3072
"""Of keys that we make: 128 bits of strength (NIST SP 800-57, table 2; OWASP ASVS 11.2.3)."""
_LEAST_RSA_BITS, _MOST_RSA_BITS = 2048, 8192
"""Of keys that others sign with: RFC 7518, section 3.3, and what a signature check may cost us."""
_MAX_KID = 255

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey

_CURVES: Mapping[str, tuple[ec.EllipticCurve, str]] = {
    "P-256": (ec.SECP256R1(), "ES256"),
    "P-384": (ec.SECP384R1(), "ES384"),
    "P-521": (ec.SECP521R1(), "ES512"),
}
"""Each with its one algorithm (RFC 7518, section 3.4)."""
_RSA_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_EDWARDS_ALGORITHMS = ("EdDSA", "Ed25519")
_EDWARDS_BYTES = 32
_HASHES = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}


@dataclass(frozen=True, slots=True)
class VerifyingKey:
    """A public key pinned to its algorithm, found by its `kid`."""

    kid: str
    algorithm: str
    jwk: Mapping[str, str]
    """The public members only, ready for a JWK set (RFC 7517)."""
    key: Key = field(repr=False)
    others: Mapping[str, Key] = field(default_factory=dict, repr=False)
    """What verifies further algorithms: an RSA key of another issuer whose JWK has no `alg` is good
    for each RSA algorithm that may be used."""
    is_named: bool = True
    """False if its JWK has no `kid`: the one here is its thumbprint then."""
    issuer: str | None = None
    """The JWK's `issuer`: Microsoft Entra names there whose tokens a shared key may sign."""

    def for_algorithm(self, algorithm: object) -> Key | None:
        """What verifies signatures by `algorithm`, if the key may be used with it."""
        if algorithm == self.algorithm:
            return self.key
        return self.others.get(algorithm) if isinstance(algorithm, str) else None


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
    fitting = _algorithms_of(public, least=_OWN_RSA_BITS)
    if not fitting or fitting[0] not in ALGORITHMS:
        raise KeyRefused("another curve than P-256")
    algorithm = fitting[0]
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


def read_jwk(
    members: object, *, algorithms: Collection[str] = ALGORITHMS, must_be_named: bool = True
) -> VerifyingKey:
    """The public key that a JWK spells (RFC 7517, section 4).

    It is good for its `alg`, which must be one of `algorithms` and fit its type and curve; without
    `alg`, for those of `algorithms` that fit. Unless it `must_be_named`, a key without `kid` is
    found by its thumbprint.

    Raises KeyRefused for one that is not meant for such signatures, is too weak or too large, has a
    point that is not on its curve, has private members, or cannot be told by a `kid`.
    """
    if not isinstance(members, dict):
        raise KeyRefused("no object")
    if "kid" in members or must_be_named:
        _check_kid(members.get("kid"))
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
    fitting = _algorithms_of(public, least=_LEAST_RSA_BITS)
    usable = [name for name in fitting if name in algorithms and members.get("alg", name) == name]
    if not usable:
        raise KeyRefused("another algorithm")
    required = _members_of(public)
    kid, issuer = members.get("kid", thumbprint(required)), members.get("issuer")
    pinned = {"alg": usable[0]} if len(usable) == 1 else {}
    verifiers = {name: _verifier(public, name) for name in usable}
    return VerifyingKey(
        kid=kid,
        algorithm=usable[0],
        jwk={**required, "kid": kid, **pinned, "use": "sig"},
        key=verifiers.pop(usable[0]),
        others=verifiers,
        is_named="kid" in members,
        issuer=issuer if isinstance(issuer, str) else None,
    )


def _check_kid(kid: object) -> None:
    if not isinstance(kid, str) or not 0 < len(kid) <= _MAX_KID or not kid.isprintable():
        raise KeyRefused("no usable kid")


def key_ring(keys: Iterable[VerifyingKey]) -> Mapping[str, VerifyingKey]:
    """`keys` by `kid`, as `jws.verify` wants them."""
    return {key.kid: key for key in keys}


def thumbprint(members: Mapping[str, str]) -> str:
    """The SHA-256 thumbprint of a public JWK of only its required members (RFC 7638)."""
    text = json.dumps(dict(sorted(members.items())), separators=(",", ":"))
    return base64url.encode(hashlib.sha256(text.encode()).digest())


def _public_key(members: Mapping[str, object]) -> PublicKey:
    # cryptography refuses points off the curve and bad exponents, but not an even modulus.
    kind, curve = members["kty"], members.get("crv")
    if kind == "EC" and isinstance(curve, str) and curve in _CURVES:
        found = _CURVES[curve][0]
        size = (found.key_size + 7) // 8
        point = ec.EllipticCurvePublicNumbers(
            _number(members["x"], size), _number(members["y"], size), found
        )
        return point.public_key()
    if kind == "RSA":
        exponent, modulus = _number(members["e"], 8), _number(members["n"], _MOST_RSA_BITS // 8)
        if modulus % 2 == 0:
            raise ValueError("an even modulus")
        return rsa.RSAPublicNumbers(exponent, modulus).public_key()
    if kind == "OKP" and curve == "Ed25519":
        return ed25519.Ed25519PublicKey.from_public_bytes(_bytes(members["x"], _EDWARDS_BYTES))
    raise ValueError("another type or curve")


def _number(value: object, most_bytes: int) -> int:
    # Some writers put a zero byte in front.
    return int.from_bytes(_bytes(value, most_bytes + 1))


def _bytes(value: object, most: int) -> bytes:
    if not isinstance(value, str):
        raise ValueError("no text")
    data = base64url.decode(value)
    if len(data) > most:
        raise ValueError("too long")
    return data


def _algorithms_of(public: PublicKey, *, least: int) -> tuple[str, ...]:
    """Every algorithm that fits the type, curve and size of a key."""
    if isinstance(public, ed25519.Ed25519PublicKey):
        return _EDWARDS_ALGORITHMS
    if isinstance(public, ec.EllipticCurvePublicKey):
        return tuple(name for curve, name in _CURVES.values() if curve.name == public.curve.name)
    if not least <= public.key_size <= _MOST_RSA_BITS:
        raise KeyRefused("RSA of another size")
    return _RSA_ALGORITHMS


def _members_of(public: PublicKey) -> dict[str, str]:
    """The members that a thumbprint is made of (RFC 7638, section 3.2; RFC 8037, section 2)."""
    if isinstance(public, ed25519.Ed25519PublicKey):
        return {"kty": "OKP", "crv": "Ed25519", "x": base64url.encode(public.public_bytes_raw())}
    if isinstance(public, ec.EllipticCurvePublicKey):
        point, size = public.public_numbers(), (public.curve.key_size + 7) // 8
        x, y = (base64url.encode(number.to_bytes(size)) for number in (point.x, point.y))
        [name] = (name for name, (curve, _) in _CURVES.items() if curve.name == public.curve.name)
        return {"kty": "EC", "crv": name, "x": x, "y": y}
    numbers = public.public_numbers()
    n, e = (
        base64url.encode(number.to_bytes((number.bit_length() + 7) // 8))
        for number in (numbers.n, numbers.e)
    )
    return {"kty": "RSA", "n": n, "e": e}


def _verifier(public: PublicKey, algorithm: str) -> Key:
    if isinstance(public, ed25519.Ed25519PublicKey):
        return _Ed25519(public, algorithm)
    if isinstance(public, rsa.RSAPublicKey) and algorithm.startswith("PS"):
        return _PSS(public, algorithm)
    return jwk.construct(_pem(public), algorithm)


class _Ed25519(Key):
    """Verifies EdDSA with Ed25519 (RFC 8037, section 3.1), which python-jose lacks."""

    def __init__(self, public: ed25519.Ed25519PublicKey, algorithm: str) -> None:
        self._public = public

    def verify(self, msg: bytes, sig: bytes) -> bool:
        try:
            self._public.verify(sig, msg)
        except InvalidSignature:
            return False
        return True


class _PSS(Key):
    """Verifies RSASSA-PSS, its salt as long as the hash (RFC 7518, section 3.5)."""

    def __init__(self, public: rsa.RSAPublicKey, algorithm: str) -> None:
        self._public = public
        self._hash = _HASHES[algorithm[2:]]
        self._padding = padding.PSS(padding.MGF1(self._hash), padding.PSS.DIGEST_LENGTH)

    def verify(self, msg: bytes, sig: bytes) -> bool:
        try:
            self._public.verify(sig, msg, self._padding, self._hash)
        except InvalidSignature:
            return False
        return True


def _pem(key: PublicKey) -> bytes:
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
