"""Secrets that have to be read again, kept where somebody may read the rows: sealed.

AES-256-GCM (NIST SP 800-38D) under a key that HKDF-SHA256 (RFC 5869) derives from the configured
secret. At most some hundred million rows are sealed in the life of a key, so random nonces of 96
bits do not meet.
"""

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from authapi.errors import SealBroken

_NONCE = 12


class Sealer:
    """Seals and opens under one configured secret, with a key of its own for each `use`."""

    def __init__(self, secret: bytes, *, use: str = "sealed rows 1") -> None:
        derived = HKDF(
            algorithm=hashes.SHA256(), length=32, salt=None, info=b"authapi " + use.encode()
        ).derive(secret)
        self._cipher = AESGCM(derived)

    def seal(self, plain: bytes, *, context: str) -> bytes:
        """`plain` so that only `open` with the same secret and `context` gives it back.

        `context` says where it stands, such as its row, so that no two can be exchanged.
        """
        nonce = os.urandom(_NONCE)
        return nonce + self._cipher.encrypt(nonce, plain, context.encode())

    def open(self, sealed: bytes, *, context: str) -> bytes:
        """What was sealed. Raises SealBroken for another secret or context, or a changed byte."""
        nonce, ciphertext = sealed[:_NONCE], sealed[_NONCE:]
        try:
            return self._cipher.decrypt(nonce, ciphertext, context.encode())
        except (InvalidTag, ValueError):
            raise SealBroken from None
