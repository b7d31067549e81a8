"""Keys of other issuers, with each algorithm that they may sign with, and tokens by them."""

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa, utils

from tests.crypto.forging import b64

_HASHES: Mapping[str, hashes.HashAlgorithm] = {
    "256": hashes.SHA256(),
    "384": hashes.SHA384(),
    "512": hashes.SHA512(),
}
_CURVES: Mapping[str, ec.EllipticCurve] = {
    "ES256": ec.SECP256R1(),
    "ES384": ec.SECP384R1(),
    "ES512": ec.SECP521R1(),
    "ES256K": ec.SECP256K1(),
}
CURVE_NAMES = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}

Private = (
    ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
) | ed448.Ed448PrivateKey


@cache
def private_key(kind: str) -> Private:
    """One key of each kind for a test run: an algorithm of `_CURVES`, `Ed25519`, `Ed448`, `RSA`."""
    if kind in _CURVES:
        return ec.generate_private_key(_CURVES[kind])
    if kind == "Ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    if kind == "Ed448":
        return ed448.Ed448PrivateKey.generate()
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def kind_of(algorithm: str) -> str:
    """The kind of key that signs with an algorithm."""
    if algorithm in _CURVES:
        return algorithm
    return "Ed25519" if algorithm in ("EdDSA", "Ed25519") else "RSA"


def public_jwk(algorithm: str, **members: object) -> dict[str, object]:
    """The JWK of the key for an algorithm, without `alg`, `kid` and `use` unless they are given."""
    return {**_public(private_key(kind_of(algorithm))), **members}


def signed(algorithm: str, header: Mapping[str, object], claims: object) -> str:
    """A token by the key for `algorithm`; the header is as given, but for an `alg` that is not."""
    parts = ({"alg": algorithm, **header}, claims)
    text = ".".join(b64(json.dumps(part).encode()) for part in parts)
    return f"{text}.{b64(signature(algorithm, text.encode()))}"


def signature(algorithm: str, data: bytes, *, salt: int | None = None) -> bytes:
    """The signature of `data`, as JWS has it; `salt` is the length of that of RSASSA-PSS."""
    key: Any = private_key(kind_of(algorithm))
    if isinstance(key, ec.EllipticCurvePrivateKey):
        size = (key.curve.key_size + 7) // 8
        r, s = utils.decode_dss_signature(key.sign(data, ec.ECDSA(_HASHES[algorithm[2:5]])))
        return r.to_bytes(size) + s.to_bytes(size)
    if isinstance(key, rsa.RSAPrivateKey):
        digest = _HASHES[algorithm[2:]]
        if algorithm.startswith("RS"):
            return key.sign(data, padding.PKCS1v15(), digest)
        length = digest.digest_size if salt is None else salt
        return key.sign(data, padding.PSS(padding.MGF1(digest), length), digest)
    made: bytes = key.sign(data)
    return made


def _public(key: Private) -> dict[str, str]:
    if isinstance(key, ec.EllipticCurvePrivateKey):
        size, point = (key.curve.key_size + 7) // 8, key.public_key().public_numbers()
        x, y = (b64(number.to_bytes(size)) for number in (point.x, point.y))
        return {"kty": "EC", "crv": CURVE_NAMES.get(key.curve.name, key.curve.name), "x": x, "y": y}
    if isinstance(key, rsa.RSAPrivateKey):
        numbers = key.public_key().public_numbers()
        n, e = (b64(n.to_bytes((n.bit_length() + 7) // 8)) for n in (numbers.n, numbers.e))
        return {"kty": "RSA", "n": n, "e": e}
    curve = "Ed25519" if isinstance(key, ed25519.Ed25519PrivateKey) else "Ed448"
    return {"kty": "OKP", "crv": curve, "x": b64(key.public_key().public_bytes_raw())}
