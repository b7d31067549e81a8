"""The signing keys in the memory of one process."""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from authapi.crypto import jwk
from authapi.crypto.encryption import Cipher
from authapi.domain.signing_key import KeyState, StoredKey
from authapi.errors import DecryptionFailed, UnsupportedKey

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class KeySet:
    """The rows of the table at one moment: the key that signs, and the keys that verify."""

    stored: Sequence[StoredKey]
    signing: jwk.SigningKey | None
    """None if its row was encrypted with another secret after this process was started."""
    verifying: Mapping[str, jwk.VerifyingKey]
    """By `kid`."""
    snapshot: int
    """`IdentityCache.snapshot()` before the rows were read."""
    read_at: float
    """When the rows were read, by `time.monotonic`."""

    @property
    def age(self) -> float:
        """Seconds since the rows were read."""
        return time.monotonic() - self.read_at

    def jwk_set(self) -> dict[str, list[dict[str, str]]]:
        """Returns the public keys as a JWK Set (RFC 7517, section 5)."""
        return {"keys": [dict(key.jwk) for key in self.verifying.values()]}


def load_key_set(
    stored: Sequence[StoredKey],
    cipher: Cipher,
    *,
    previous: KeySet | None,
    snapshot: int,
    read_at: float,
    now: datetime,
) -> KeySet:
    """Returns the key set of these rows.

    A private key that `previous` contains is not decrypted again. So a running process survives a
    change of the secret, and rows that become damaged: it goes on with the keys it has read, and
    still verifies if it can sign no longer. Without `previous`, raises DecryptionFailed if another
    secret encrypted the active key, and UnsupportedKey if a row contains no usable key.
    """
    signing: jwk.SigningKey | None = None
    verifying = []
    for key in stored:
        if key.state is KeyState.ACTIVE:
            signing = _signing(key, cipher, previous)
        if key.published_until is None or key.published_until > now:
            try:
                verifying.append(_verifying(key, previous))
            except UnsupportedKey:
                if previous is None:
                    raise
                # Damaged while this process runs: its signatures are rejected, other keys work on.
                _log.error("signing key damaged", extra={"kid": key.kid})
    return KeySet(tuple(stored), signing, jwk.keys_by_kid(verifying), snapshot, read_at)


def decrypt_private_key(key: StoredKey, cipher: Cipher) -> jwk.SigningKey:
    """Returns the private key of a row.

    Raises DecryptionFailed if another secret encrypted it, UnsupportedKey if it is unusable or does
    not belong to the `kid` of the row, ConfigurationError if python-jose has no fast backend.
    """
    private = jwk.read_private_key(
        cipher.decrypt(key.private_key or b"", context=private_key_context(key.kid))
    )
    if private.verifying.kid != key.kid:
        raise UnsupportedKey("the private key does not match the kid of its row")
    return private


def private_key_context(kid: str) -> str:
    """Returns the associated data of an encrypted private key, which names its row."""
    return f"signing_keys {kid}"


def _signing(key: StoredKey, cipher: Cipher, previous: KeySet | None) -> jwk.SigningKey | None:
    if previous is None:
        return decrypt_private_key(key, cipher)
    if previous.signing is not None and previous.signing.verifying.kid == key.kid:
        return previous.signing
    try:
        return decrypt_private_key(key, cipher)
    except (DecryptionFailed, UnsupportedKey):
        return None


def _verifying(key: StoredKey, previous: KeySet | None) -> jwk.VerifyingKey:
    loaded = None if previous is None else previous.verifying.get(key.kid)
    return loaded or jwk.read_jwk(dict(key.public_jwk))
