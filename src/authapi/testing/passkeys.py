"""A passkey in software, with the browser that uses it (WebAuthn Level 3).

Its code is independent of the service, which verifies what it answers. Each member that an attacker
could change is an attribute.
"""

import hashlib
import json
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

ORIGIN = "http://localhost:8000"
PRESENT, VERIFIED, ELIGIBLE, BACKED_UP, ATTESTED = 1, 4, 8, 16, 64
"""The flags of an answer (WebAuthn Level 3, section 6.1)."""
Key = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey


def b64(data: bytes) -> str:
    """Returns base64url without padding."""
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64(text: str) -> bytes:
    """Returns the bytes of base64url without padding."""
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def cose_key(key: Key) -> dict[int, object]:
    """Returns the members of the public key in COSE (RFC 9053)."""
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return {1: 1, 3: -8, -1: 6, -2: key.public_key().public_bytes_raw()}
    if isinstance(key, rsa.RSAPrivateKey):
        public = key.public_key().public_numbers()
        return {1: 3, 3: -257, -1: public.n.to_bytes(256), -2: public.e.to_bytes(3)}
    point = key.public_key().public_numbers()
    return {1: 2, 3: -7, -1: 1, -2: point.x.to_bytes(32), -3: point.y.to_bytes(32)}


@dataclass
class SoftPasskey:
    """One passkey, and the browser that uses it. `Authenticator.passkey` creates it."""

    algorithm: int = -7
    """Of COSE: ES256 by default, -8 is EdDSA, and -257 is RS256."""
    origin: str = ORIGIN
    """The origin of the page that uses it."""
    counts: bool = False
    """Whether it has a signature counter; synced passkeys have none."""
    flags: int = PRESENT | VERIFIED | ELIGIBLE | BACKED_UP
    """What the authenticator says of the user and of copies."""
    sign_count: int = 0
    client_data: dict[str, object] = field(default_factory=dict)
    """Members of the client data that replace its own."""
    handle: bytes | None = None
    """What the service calls the account; None until an account has the passkey."""
    credential_id: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    rp_id: str | None = None
    """Replaces that of the options."""

    def __post_init__(self) -> None:
        """Makes the key."""
        self.key = _new_key(self.algorithm)

    @property
    def id(self) -> str:
        """The id of the credential, as browsers have it."""
        return b64(self.credential_id)

    @property
    def public_key(self) -> bytes:
        """The public key, as the service stores it. Raises RuntimeError without the extra."""
        return _cbor(cose_key(self.key))

    def create(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Returns what `navigator.credentials.create()` does, as JSON.

        Raises ValueError if the options exclude this passkey or its algorithm, and RuntimeError
        without the extra `passkeys`.
        """
        if self.algorithm not in [item["alg"] for item in options["pubKeyCredParams"]]:
            raise ValueError("the options do not ask for the algorithm of this passkey")
        if self.id in [item["id"] for item in options["excludeCredentials"]]:
            raise ValueError("the account has this passkey already")
        self.handle = unb64(options["user"]["id"])
        length = len(self.credential_id).to_bytes(2)
        attested = bytes(16) + length + self.credential_id + self.public_key
        data = self._data(options["rp"]["id"], ATTESTED) + attested
        response = {
            "clientDataJSON": b64(self._client_data("webauthn.create", options)),
            "attestationObject": b64(_cbor({"fmt": "none", "attStmt": {}, "authData": data})),
            "transports": ["internal", "hybrid"],
        }
        return self._credential(response)

    def get(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Returns what `navigator.credentials.get()` does, as JSON.

        Raises ValueError if the options are for other passkeys.
        """
        allowed = [item["id"] for item in options["allowCredentials"]]
        if allowed and self.id not in allowed:
            raise ValueError("the account does not have this passkey")
        self.sign_count += self.counts
        data = self._data(options["rpId"])
        client = self._client_data("webauthn.get", options)
        response = {
            "clientDataJSON": b64(client),
            "authenticatorData": b64(data),
            "signature": b64(self._sign(data + hashlib.sha256(client).digest())),
            "userHandle": None if self.handle is None else b64(self.handle),
        }
        return self._credential(response)

    def _credential(self, response: Mapping[str, object]) -> dict[str, Any]:
        return {
            "id": self.id,
            "rawId": self.id,
            "type": "public-key",
            "authenticatorAttachment": "platform",
            "clientExtensionResults": {},
            "response": response,
        }

    def _client_data(self, kind: str, options: Mapping[str, Any]) -> bytes:
        own = {
            "type": kind,
            "challenge": options["challenge"],
            "origin": self.origin,
            "crossOrigin": False,
        }
        return json.dumps(own | self.client_data).encode()

    def _data(self, rp_id: str, more: int = 0) -> bytes:
        domain = hashlib.sha256((self.rp_id or rp_id).encode()).digest()
        return domain + bytes([self.flags | more]) + self.sign_count.to_bytes(4)

    def _sign(self, data: bytes) -> bytes:
        if isinstance(self.key, ed25519.Ed25519PrivateKey):
            return self.key.sign(data)
        if isinstance(self.key, rsa.RSAPrivateKey):
            return self.key.sign(data, padding.PKCS1v15(), hashes.SHA256())
        return self.key.sign(data, ec.ECDSA(hashes.SHA256()))


def _new_key(algorithm: int) -> Key:
    if algorithm == -8:
        return ed25519.Ed25519PrivateKey.generate()
    if algorithm == -257:
        return rsa.generate_private_key(65537, 2048)
    return ec.generate_private_key(ec.SECP256R1())


def _cbor(value: object) -> bytes:
    try:
        import cbor2  # noqa: PLC0415  # comes with an extra
    except ImportError:
        raise RuntimeError(
            "passkeys need the extra: pip install 'fastapi-authapi[passkeys]'"
        ) from None
    encoded: bytes = cbor2.dumps(value, canonical=True)
    return encoded
