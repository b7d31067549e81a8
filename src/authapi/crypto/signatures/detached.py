"""Detached signatures: ECDSA on P-256 with SHA-256, as Base64 of DER.

A detached signature is sent next to its message (FIPS 186-5; RFC 3279, section 2.2.3). It covers
the exact bytes of the message, so it must be verified before the message is parsed.
"""

import base64
import binascii
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from authapi.errors import SignatureMismatch, UnsupportedKey

_MAX_LENGTH = 128
"""Characters. Two numbers of 32 bytes are at most 72 bytes in DER, or 96 characters of Base64."""


@dataclass(frozen=True, slots=True)
class P256PublicKey:
    """A public key on the curve P-256."""

    _key: ec.EllipticCurvePublicKey = field(repr=False)

    def verify(self, message: bytes, signature: str) -> None:
        """Verifies `signature` over `message`. Raises SignatureMismatch if it is invalid."""
        if len(signature) > _MAX_LENGTH:
            raise SignatureMismatch
        try:
            der = base64.b64decode(signature, validate=True)
            self._key.verify(der, message, ec.ECDSA(hashes.SHA256()))
        except (InvalidSignature, binascii.Error, ValueError):
            raise SignatureMismatch from None


def load_p256_public_key(pem: str) -> P256PublicKey:
    """Loads a public key from PEM (RFC 7468).

    Raises UnsupportedKey unless it is a public key on the curve P-256.
    """
    try:
        key = load_pem_public_key(pem.encode())
    except (ValueError, UnsupportedAlgorithm):
        raise UnsupportedKey("not a public key") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise UnsupportedKey("not a key on P-256")
    return P256PublicKey(key)
