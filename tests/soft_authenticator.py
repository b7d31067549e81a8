"""A passkey in software: what a browser and an authenticator answer to the options of the service.

Its code is independent of the service. Each member that an attacker could change is an attribute.
"""

import hashlib
import json
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import cbor2
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

ORIGIN = "http://localhost:8000"
PRESENT, VERIFIED, ELIGIBLE, BACKED_UP, ATTESTED = 1, 4, 8, 16, 64
Key = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey


def b64(data: bytes) -> str:
    """base64url without padding."""
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64(text: str) -> bytes:
    """The bytes of base64url without padding."""
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def new_key(algorithm: int) -> Key:
    """A private key for an algorithm of COSE."""
    if algorithm == -8:
        return ed25519.Ed25519PrivateKey.generate()
    if algorithm == -257:
        return rsa.generate_private_key(65537, 2048)
    return ec.generate_private_key(ec.SECP256R1())


def cose_key(key: Key) -> dict[int, object]:
    """The public key in COSE (RFC 9053)."""
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return {1: 1, 3: -8, -1: 6, -2: key.public_key().public_bytes_raw()}
    if isinstance(key, rsa.RSAPrivateKey):
        public = key.public_key().public_numbers()
        return {1: 3, 3: -257, -1: public.n.to_bytes(256), -2: public.e.to_bytes(3)}
    point = key.public_key().public_numbers()
    return {1: 2, 3: -7, -1: 1, -2: point.x.to_bytes(32), -3: point.y.to_bytes(32)}


@dataclass
class SoftAuthenticator:
    """One passkey, and the browser that uses it."""

    algorithm: int = -7
    origin: str = ORIGIN
    counts: bool = False
    """Whether it has a signature counter; synced passkeys have none."""
    flags: int = PRESENT | VERIFIED | ELIGIBLE | BACKED_UP
    sign_count: int = 0
    client_data: dict[str, object] = field(default_factory=dict)
    """Members of the client data that replace its own."""
    handle: bytes | None = None
    credential_id: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    rp_id: str | None = None
    """Replaces that of the options."""

    def __post_init__(self) -> None:
        self.key = new_key(self.algorithm)

    @property
    def id(self) -> str:
        """The credential id, as browsers have it."""
        return b64(self.credential_id)

    def create(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """`navigator.credentials.create()`, as JSON."""
        assert self.algorithm in [item["alg"] for item in options["pubKeyCredParams"]]
        assert self.id not in [item["id"] for item in options["excludeCredentials"]]
        self.handle = unb64(options["user"]["id"])
        length = len(self.credential_id).to_bytes(2)
        attested = bytes(16) + length + self.credential_id
        data = self._data(options["rp"]["id"], ATTESTED) + attested
        data += cbor2.dumps(cose_key(self.key), canonical=True)
        found = {"fmt": "none", "attStmt": {}, "authData": data}
        response = {
            "clientDataJSON": b64(self._client_data("webauthn.create", options)),
            "attestationObject": b64(cbor2.dumps(found, canonical=True)),
            "transports": ["internal", "hybrid"],
        }
        return self._credential(response)

    def get(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """`navigator.credentials.get()`, as JSON."""
        allowed = [item["id"] for item in options["allowCredentials"]]
        assert not allowed or self.id in allowed
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
