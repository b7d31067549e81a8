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


class Secrets:
    """The configured secret, and the one that it replaces while processes have either.

    While `writes_previous`, everything is written under the previous secret, which every process
    has. What is read may be under either.
    """

    def __init__(self, current: bytes, previous: bytes | None = None) -> None:
        self.current = current
        self.previous = previous
        self.writes_previous = previous is not None


class Cipher:
    """Encrypts and decrypts under the configured secret, and decrypts under its previous one.

    `use` is part of the key derivation: every use of the same secret has a key of its own.
    """

    def __init__(self, secret: bytes | Secrets, *, use: str = "sealed rows 1") -> None:
        self._secrets = secret if isinstance(secret, Secrets) else Secrets(secret)
        self._aead = _aead(self._secrets.current, use)
        previous = self._secrets.previous
        self._previous = None if previous is None else _aead(previous, use)

    def encrypt(self, plaintext: bytes, *, context: str) -> bytes:
        """Returns the nonce (12 bytes), then the ciphertext, then the tag (16 bytes).

        `context` is the associated data. It names the row that stores the result, so that a
        ciphertext copied to another row does not decrypt there.
        """
        nonce, aead = os.urandom(_NONCE_BYTES), self._aead
        if self._previous is not None and self._secrets.writes_previous:
            aead = self._previous
        return nonce + aead.encrypt(nonce, plaintext, context.encode())

    def decrypt(self, encrypted: bytes, *, context: str) -> bytes:
        """Returns the plaintext of a result of `encrypt`.

        Raises DecryptionFailed if the secret, the `use` or the `context` differs, or if a byte was
        changed.
        """
        try:
            return _decrypt(self._aead, encrypted, context)
        except DecryptionFailed:
            if self._previous is None:
                raise
        return _decrypt(self._previous, encrypted, context)

    def is_current(self, encrypted: bytes, *, context: str) -> bool:
        """Whether `encrypted` is under the configured secret, and not under the previous one."""
        try:
            _decrypt(self._aead, encrypted, context)
        except DecryptionFailed:
            return False
        return True


def _aead(secret: bytes, use: str) -> AESGCM:
    derived = HKDF(
        algorithm=hashes.SHA256(), length=32, salt=None, info=b"authapi " + use.encode()
    ).derive(secret)
    return AESGCM(derived)


def _decrypt(aead: AESGCM, encrypted: bytes, context: str) -> bytes:
    nonce, ciphertext = encrypted[:_NONCE_BYTES], encrypted[_NONCE_BYTES:]
    try:
        return aead.decrypt(nonce, ciphertext, context.encode())
    except (InvalidTag, ValueError):
        raise DecryptionFailed from None
