"""Signatures that travel beside what they sign: ECDSA on P-256 with SHA-256, as base64 of DER.

They are over bytes as those arrived. What is parsed and written again is another message, so they
are verified before anything is parsed (FIPS 186-5; RFC 3279, section 2.2.3).
"""

import base64
import binascii
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from authapi.errors import KeyRefused, SignatureMismatch

_MAX_LENGTH = 128
"""Characters: two numbers of 32 bytes in DER make 72 bytes at most, 96 characters of base64."""


@dataclass(frozen=True, slots=True)
class DetachedKey:
    """A public key that such signatures are verified with."""

    _key: ec.EllipticCurvePublicKey = field(repr=False)

    def verify(self, message: bytes, signature: str) -> None:
        """Return if the holder of the private half has signed `message`.

        Raises SignatureMismatch for every other signature, and for what is none.
        """
        if len(signature) > _MAX_LENGTH:
            raise SignatureMismatch
        try:
            der = base64.b64decode(signature, validate=True)
            self._key.verify(der, message, ec.ECDSA(hashes.SHA256()))
        except (InvalidSignature, binascii.Error, ValueError):
            raise SignatureMismatch from None


def read_detached_key(pem: str) -> DetachedKey:
    """The key that `pem` spells (RFC 7468). Raises KeyRefused for all but a public key on P-256."""
    try:
        key = load_pem_public_key(pem.encode())
    except (ValueError, UnsupportedAlgorithm):
        raise KeyRefused("no public key") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise KeyRefused("another kind than P-256")
    return DetachedKey(key)
