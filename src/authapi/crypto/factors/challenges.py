"""Challenges of WebAuthn that verify themselves, so that issuing one writes nothing.

A challenge is the time of its end (4 bytes), its purpose (1), random bits (16) and a truncated
HMAC-SHA-256 (16) over these and the binding: the session, the login under way or the browser that
it was issued to. Storing its digest when it is answered makes it good for one use.
"""

import hashlib
import hmac
import os
from datetime import UTC, datetime

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from authapi.crypto.encryption import Secrets
from authapi.domain.factors.passkeys import (
    CHALLENGE_LIFETIME,
    ChallengePurpose,
    UsedChallenge,
)
from authapi.errors import PasskeyMismatch

_TIME_BYTES = 4
_RANDOM_BYTES = 16
_TAG_BYTES = 16
_LENGTH = _TIME_BYTES + 1 + _RANDOM_BYTES + _TAG_BYTES


class Challenges:
    """Issues challenges under the configured secret, and checks also those of its previous one."""

    def __init__(self, secret: bytes | Secrets) -> None:
        self._secrets = secret if isinstance(secret, Secrets) else Secrets(secret)
        self._key = _derived(self._secrets.current)
        previous = self._secrets.previous
        self._previous = self._key if previous is None else _derived(previous)

    def issue(self, purpose: ChallengePurpose, binding: str, *, at: datetime) -> bytes:
        """Returns a challenge that can be answered for five minutes from `at`.

        `binding` names what may answer it.
        """
        expires_at = int((at + CHALLENGE_LIFETIME).timestamp())
        head = expires_at.to_bytes(_TIME_BYTES) + purpose.to_bytes(1) + os.urandom(_RANDOM_BYTES)
        key = self._previous if self._secrets.writes_previous else self._key
        return head + _tag(key, head, binding)

    def check(
        self, challenge: bytes, purpose: ChallengePurpose, binding: str, *, at: datetime
    ) -> UsedChallenge:
        """Returns what is stored when the challenge is used.

        Raises PasskeyMismatch if it was not issued for this purpose and binding, or has expired.
        """
        head, tag = challenge[:-_TAG_BYTES], challenge[-_TAG_BYTES:]
        if len(challenge) != _LENGTH:
            raise PasskeyMismatch
        tags = [_tag(key, head, binding) for key in (self._key, self._previous)]
        if not any(hmac.compare_digest(tag, own) for own in tags):
            raise PasskeyMismatch
        expires_at = datetime.fromtimestamp(int.from_bytes(head[:_TIME_BYTES]), UTC)
        if head[_TIME_BYTES] != purpose or at >= expires_at:
            raise PasskeyMismatch
        return UsedChallenge(hashlib.sha256(challenge).digest(), expires_at)


def _derived(secret: bytes) -> bytes:
    return HKDF(
        algorithm=hashes.SHA256(), length=32, salt=None, info=b"authapi webauthn challenge 1"
    ).derive(secret)


def _tag(key: bytes, head: bytes, binding: str) -> bytes:
    # The head has a fixed length, so no two pairs of head and binding give the same text.
    return hmac.digest(key, head + binding.encode(), "sha256")[:_TAG_BYTES]
