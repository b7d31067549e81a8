"""Signing keys of tokens as JWKs (RFC 7517, 7518, 7638), each pinned to its algorithm.

The algorithms of a key are determined when it is loaded, from its type, curve, size and members,
and never by a token. Keys are constructed once, because constructing one for each signature is far
slower.

Keys of this service sign with one of `ALGORITHMS`. Keys of other issuers may use any of
`VERIFIED_ALGORITHMS`: python-jose verifies ECDSA and RSASSA-PKCS1-v1_5. This module verifies
RSASSA-PSS and EdDSA, which python-jose lacks, with cryptography. Symmetric algorithms and `none`
are not among them, so that a public key cannot be used as a shared secret.

python-jose has no thumbprints, and makes no keys (decision 0003). joserfc has both: if it replaces
python-jose, it also replaces most of this module.
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
from authapi.errors import ConfigurationError, UnsupportedKey

Algorithm = Literal["ES256", "RS256"]
ALGORITHMS: Final[tuple[Algorithm, ...]] = get_args(Algorithm)
VERIFIED_ALGORITHMS: Final = (
    *("ES256", "ES384", "ES512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("EdDSA", "Ed25519"),
)
"""The algorithms of tokens of other issuers: RFC 7518, sections 3.3 to 3.5; RFC 8037, section 3.1,
with the curve Ed25519 only, which is an algorithm name of its own in RFC 9864."""

_OWN_RSA_BITS = 3072
"""For keys of this service: 128 bits of strength (NIST SP 800-57, table 2; OWASP ASVS 11.2.3)."""
_MIN_RSA_BITS, _MAX_RSA_BITS = 2048, 8192
"""For keys of other issuers: RFC 7518, section 3.3, and a bound for the cost of a verification."""
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
    """A public key that is pinned to its algorithm and identified by its `kid`."""

    kid: str
    algorithm: str
    jwk: Mapping[str, str]
    """The public members, as in a JWK set (RFC 7517)."""
    key: Key = field(repr=False)
    other_algorithms: Mapping[str, Key] = field(default_factory=dict, repr=False)
    """The keys for further algorithms: an RSA key of another issuer without `alg` is valid for
    every accepted RSA algorithm."""
    has_kid: bool = True
    """False if the JWK has no `kid`: then `kid` is its thumbprint."""
    issuer: str | None = None
    """The JWK's `issuer`: in a key set that tenants share, Microsoft Entra names there the issuer
    for which a key signs."""

    def for_algorithm(self, algorithm: object) -> Key | None:
        """Returns the key for `algorithm`, or None if this key must not be used with it."""
        if algorithm == self.algorithm:
            return self.key
        return self.other_algorithms.get(algorithm) if isinstance(algorithm, str) else None


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key with its public key."""

    verifying: VerifyingKey
    key: Key = field(repr=False)


def new_private_key(algorithm: Algorithm) -> bytes:
    """Returns a new private key for `algorithm` as DER-encoded PKCS #8.

    Generating an RSA key takes a large part of a second.
    """
    private: PrivateKey = (
        ec.generate_private_key(ec.SECP256R1())
        if algorithm == "ES256"
        else rsa.generate_private_key(public_exponent=65537, key_size=_OWN_RSA_BITS)
    )
    return private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


def read_private_key(der: bytes) -> SigningKey:
    """Loads a key of `new_private_key`. Its `kid` is its thumbprint (RFC 7638).

    Raises UnsupportedKey for any other data, and ConfigurationError if python-jose does not use the
    cryptography package.
    """
    if not jwk.ECKey.__module__.endswith("cryptography_backend"):
        raise ConfigurationError("python-jose must run on the cryptography package; install it")
    try:
        private = load_der_private_key(der, password=None)
    except (ValueError, TypeError):
        raise UnsupportedKey("not a private key") from None
    if not isinstance(private, PrivateKey):
        raise UnsupportedKey("neither EC nor RSA")
    public = private.public_key()
    supported = _supported_algorithms(public, min_rsa_bits=_OWN_RSA_BITS)
    if not supported or supported[0] not in ALGORITHMS:
        raise UnsupportedKey("another curve than P-256")
    algorithm = supported[0]
    members = _required_members(public)
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
    members: object, *, algorithms: Collection[str] = ALGORITHMS, kid_required: bool = True
) -> VerifyingKey:
    """Loads the public key of a JWK (RFC 7517, section 4).

    The key is pinned to its `alg`, which must be one of `algorithms` and match its type and curve.
    Without `alg`, it is valid for every matching one of `algorithms`. Unless `kid_required`, the
    `kid` of a key without one is its thumbprint.

    Raises UnsupportedKey if the JWK is malformed, is not for signatures with one of `algorithms`,
    is too weak or too large, has a point that is not on its curve, has private members, or has no
    valid `kid`.
    """
    if not isinstance(members, dict):
        raise UnsupportedKey("not a JSON object")
    if "kid" in members or kid_required:
        _check_kid(members.get("kid"))
    if "d" in members:
        raise UnsupportedKey("it has private members")
    operations = members.get("key_ops", ["verify"])
    if members.get("use", "sig") != "sig" or not isinstance(operations, list):
        raise UnsupportedKey("not for signatures")
    if "verify" not in operations:
        raise UnsupportedKey("not for signatures")
    try:
        public = _public_key(members)
    except (ValueError, TypeError, KeyError):
        raise UnsupportedKey("not a public key") from None
    supported = _supported_algorithms(public, min_rsa_bits=_MIN_RSA_BITS)
    usable = [name for name in supported if name in algorithms and members.get("alg", name) == name]
    if not usable:
        raise UnsupportedKey("unsupported algorithm")
    required = _required_members(public)
    kid, issuer = members.get("kid", thumbprint(required)), members.get("issuer")
    pinned = {"alg": usable[0]} if len(usable) == 1 else {}
    verifiers = {name: _verifier(public, name) for name in usable}
    return VerifyingKey(
        kid=kid,
        algorithm=usable[0],
        jwk={**required, "kid": kid, **pinned, "use": "sig"},
        key=verifiers.pop(usable[0]),
        other_algorithms=verifiers,
        has_kid="kid" in members,
        issuer=issuer if isinstance(issuer, str) else None,
    )


def _check_kid(kid: object) -> None:
    if not isinstance(kid, str) or not 0 < len(kid) <= _MAX_KID or not kid.isprintable():
        raise UnsupportedKey("invalid kid")


def keys_by_kid(keys: Iterable[VerifyingKey]) -> Mapping[str, VerifyingKey]:
    """Returns `keys` by their `kid`, in the form that `jws.verify` takes."""
    return {key.kid: key for key in keys}


def thumbprint(members: Mapping[str, str]) -> str:
    """Returns the SHA-256 thumbprint of a public JWK (RFC 7638).

    `members` must be its required members only.
    """
    text = json.dumps(dict(sorted(members.items())), separators=(",", ":"))
    return base64url.encode(hashlib.sha256(text.encode()).digest())


def _public_key(members: Mapping[str, object]) -> PublicKey:
    # cryptography rejects points off the curve and invalid exponents, but not an even modulus.
    kind, curve = members["kty"], members.get("crv")
    if kind == "EC" and isinstance(curve, str) and curve in _CURVES:
        ec_curve = _CURVES[curve][0]
        size = (ec_curve.key_size + 7) // 8
        point = ec.EllipticCurvePublicNumbers(
            _number(members["x"], size), _number(members["y"], size), ec_curve
        )
        return point.public_key()
    if kind == "RSA":
        exponent, modulus = _number(members["e"], 8), _number(members["n"], _MAX_RSA_BITS // 8)
        if modulus % 2 == 0:
            raise ValueError("even modulus")
        return rsa.RSAPublicNumbers(exponent, modulus).public_key()
    if kind == "OKP" and curve == "Ed25519":
        return ed25519.Ed25519PublicKey.from_public_bytes(_bytes(members["x"], _EDWARDS_BYTES))
    raise ValueError("unsupported type or curve")


def _number(value: object, max_bytes: int) -> int:
    # Some libraries prepend a zero byte.
    return int.from_bytes(_bytes(value, max_bytes + 1))


def _bytes(value: object, max_length: int) -> bytes:
    if not isinstance(value, str):
        raise ValueError("not a string")
    data = base64url.decode(value)
    if len(data) > max_length:
        raise ValueError("too long")
    return data


def _supported_algorithms(public: PublicKey, *, min_rsa_bits: int) -> tuple[str, ...]:
    """Returns every algorithm for the type and curve of a key.

    Raises UnsupportedKey for an RSA key of an unsupported size.
    """
    if isinstance(public, ed25519.Ed25519PublicKey):
        return _EDWARDS_ALGORITHMS
    if isinstance(public, ec.EllipticCurvePublicKey):
        return tuple(name for curve, name in _CURVES.values() if curve.name == public.curve.name)
    if not min_rsa_bits <= public.key_size <= _MAX_RSA_BITS:
        raise UnsupportedKey("unsupported RSA key size")
    return _RSA_ALGORITHMS


def _required_members(public: PublicKey) -> dict[str, str]:
    """Returns the members of a thumbprint (RFC 7638, section 3.2; RFC 8037, section 2)."""
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
    """Verifies RSASSA-PSS with a salt as long as the hash (RFC 7518, section 3.5)."""

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
