"""Client secrets that are signed for one request."""

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from authapi.crypto.signatures.client_assertions import AssertionKey
from authapi.errors import UnsupportedKey

KEY = ec.generate_private_key(ec.SECP256R1())


def pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def test_another_library_verifies_it() -> None:
    token = AssertionKey(pem(KEY), kid="the-key").sign({"sub": "x", "iat": 1, "exp": 1 << 40})
    assert jwt.get_unverified_header(token) == {"alg": "ES256", "kid": "the-key", "typ": "JWT"}
    assert jwt.decode(token, KEY.public_key(), algorithms=["ES256"])["sub"] == "x"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no key",
        pem(ec.generate_private_key(ec.SECP384R1())),
        pem(rsa.generate_private_key(65537, 2048)),
        KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")),
    ],
    ids=["empty", "text", "P-384", "RSA", "public", "encrypted"],
)
def test_other_data_is_refused(data: bytes) -> None:
    with pytest.raises(UnsupportedKey):
        AssertionKey(data, kid="the-key")
