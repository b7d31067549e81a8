"""Fixed signing keys for tests, whose private keys the tests have.

They are the same in every process of a test run, because parameters of tests depend on them.
"""

import hashlib

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from authapi.crypto import jwk


def der_of(name: str) -> bytes:
    """Returns a private ES256 key that is derived from `name`, as DER-encoded PKCS #8."""
    scalar = int.from_bytes(hashlib.sha256(name.encode()).digest()) % (1 << 255) + 1
    private = ec.derive_private_key(scalar, ec.SECP256R1())
    return private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


DER = der_of("the service under test")
KEY = jwk.read_private_key(DER)
FOREIGN = jwk.read_private_key(der_of("another service"))
