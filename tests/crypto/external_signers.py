"""Keys of other issuers for every algorithm, and tokens that they sign."""

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa, utils

from tests.crypto.forgery import b64

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
    """Returns the key of this kind: of `_CURVES`, `Ed25519`, `Ed448` or `RSA`. Cached."""
    if kind in _CURVES:
        return ec.generate_private_key(_CURVES[kind])
    if kind == "Ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    if kind == "Ed448":
        return ed448.Ed448PrivateKey.generate()
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def kind_of(algorithm: str) -> str:
    """Returns the kind of key for an algorithm."""
    if algorithm in _CURVES:
        return algorithm
    return "Ed25519" if algorithm in ("EdDSA", "Ed25519") else "RSA"


def public_jwk(algorithm: str, **members: object) -> dict[str, object]:
    """Returns the JWK of the key for an algorithm. It has `alg`, `kid` and `use` only if given."""
    return {**_public(private_key(kind_of(algorithm))), **members}


def signed(algorithm: str, header: Mapping[str, object], claims: object) -> str:
    """Returns a token signed by the key for `algorithm`, with `alg` added to `header`."""
    parts = ({"alg": algorithm, **header}, claims)
    text = ".".join(b64(json.dumps(part).encode()) for part in parts)
    return f"{text}.{b64(signature(algorithm, text.encode()))}"


def signature(algorithm: str, data: bytes, *, salt: int | None = None) -> bytes:
    """Returns the JWS signature of `data`; `salt` is the salt length of RSASSA-PSS."""
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
