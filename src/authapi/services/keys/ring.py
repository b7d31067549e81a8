"""The signing keys as one process has them in memory."""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from authapi.crypto import jwk
from authapi.crypto.sealing import Sealer
from authapi.errors import KeyRefused, SealBroken
from authapi.storage.tables.signing_keys import KeyState, StoredKey

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class KeyRing:
    """What was in the table at one moment: the key that signs, and all that verify."""

    stored: Sequence[StoredKey]
    signing: jwk.SigningKey | None
    """None where another secret has sealed it since this process was started."""
    verifying: Mapping[str, jwk.VerifyingKey]
    number: int
    """What `KnownCallers.number` was before it was read."""
    read_at: float
    """Monotonic seconds."""

    @property
    def age(self) -> float:
        """Seconds since it was read."""
        return time.monotonic() - self.read_at

    def jwk_set(self) -> dict[str, list[dict[str, str]]]:
        """The public keys, as a JWK set (RFC 7517, section 5)."""
        return {"keys": [dict(key.jwk) for key in self.verifying.values()]}


def ring_of(
    stored: Sequence[StoredKey],
    sealer: Sealer,
    *,
    before: KeyRing | None,
    number: int,
    read_at: float,
    now: datetime,
) -> KeyRing:
    """The ring that these rows make.

    A private key that `before` has already is not opened again: after the secret was changed, a
    process lives on with what it could read, and verifies if it cannot sign any more; so it does
    with rows that were damaged. Without `before`, raises SealBroken where another secret has sealed
    the key, and KeyRefused for a row that holds none.
    """
    signing: jwk.SigningKey | None = None
    verifying = []
    for key in stored:
        if key.state is KeyState.ACTIVE:
            signing = _signing(key, sealer, before)
        if key.published_until is None or key.published_until > now:
            try:
                verifying.append(_verifying(key, before))
            except KeyRefused:
                if before is None:
                    raise
                # Damaged while we run: nothing that it signed is accepted, and the others work on.
                _log.error("a signing key is damaged", extra={"kid": key.kid})
    return KeyRing(tuple(stored), signing, jwk.key_ring(verifying), number, read_at)


def opened(key: StoredKey, sealer: Sealer) -> jwk.SigningKey:
    """The private half of `key`. Raises SealBroken, and KeyRefused if it is another key's."""
    private = jwk.read_private_key(sealer.open(key.private_key or b"", context=context_of(key.kid)))
    if private.verifying.kid != key.kid:
        raise KeyRefused("another key than its row says")
    return private


def context_of(kid: str) -> str:
    """What a private key is sealed for: its own row."""
    return f"signing_keys {kid}"


def _signing(key: StoredKey, sealer: Sealer, before: KeyRing | None) -> jwk.SigningKey | None:
    if before is None:
        return opened(key, sealer)
    if before.signing is not None and before.signing.verifying.kid == key.kid:
        return before.signing
    try:
        return opened(key, sealer)
    except (SealBroken, KeyRefused):
        return None


def _verifying(key: StoredKey, before: KeyRing | None) -> jwk.VerifyingKey:
    known = None if before is None else before.verifying.get(key.kid)
    return known or jwk.read_jwk(dict(key.public_jwk))
