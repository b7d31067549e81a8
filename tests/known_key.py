"""Signing keys that tests know the private half of, to sign what a service would.

The same in every process of a test run: parameters of tests are made of them.
"""

import hashlib

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from authapi.crypto import jwk


def der_of(name: str) -> bytes:
    """A private ES256 key that only this name gives, as PKCS #8 in DER."""
    scalar = int.from_bytes(hashlib.sha256(name.encode()).digest()) % (1 << 255) + 1
    private = ec.derive_private_key(scalar, ec.SECP256R1())
    return private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


DER = der_of("the service under test")
KEY = jwk.read_private_key(DER)
FOREIGN = jwk.read_private_key(der_of("somebody else, who has no business here"))
