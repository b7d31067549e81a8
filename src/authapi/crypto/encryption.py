"""Authenticated encryption of secrets that the service has to read again from the database.

The algorithm is AES-256-GCM (NIST SP 800-38D). HKDF-SHA256 (RFC 5869) derives its key from the
configured secret. A nonce is 96 random bits, which stay unique as long as one key encrypts at most
some hundred million rows.
"""

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from authapi.errors import DecryptionFailed

_NONCE_BYTES = 12


class Cipher:
    """Encrypts and decrypts under one configured secret.

    `use` is part of the key derivation: every use of the same secret has a key of its own.
    """

    def __init__(self, secret: bytes, *, use: str = "sealed rows 1") -> None:
        derived = HKDF(
            algorithm=hashes.SHA256(), length=32, salt=None, info=b"authapi " + use.encode()
        ).derive(secret)
        self._aead = AESGCM(derived)

    def encrypt(self, plaintext: bytes, *, context: str) -> bytes:
        """Returns the nonce (12 bytes), then the ciphertext, then the tag (16 bytes).

        `context` is the associated data. It names the row that stores the result, so that a
        ciphertext copied to another row does not decrypt there.
        """
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._aead.encrypt(nonce, plaintext, context.encode())

    def decrypt(self, encrypted: bytes, *, context: str) -> bytes:
        """Returns the plaintext of a result of `encrypt`.

        Raises DecryptionFailed if the secret, the `use` or the `context` differs, or if a byte was
        changed.
        """
        nonce, ciphertext = encrypted[:_NONCE_BYTES], encrypted[_NONCE_BYTES:]
        try:
            return self._aead.decrypt(nonce, ciphertext, context.encode())
        except (InvalidTag, ValueError):
            raise DecryptionFailed from None
