"""A secret scanner that reports leaked tokens, as GitHub does: its key, and what it signs."""

import base64
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

PATH = "/tokens/leaked"
IDENTIFIER, SIGNATURE = "Github-Public-Key-Identifier", "Github-Public-Key-Signature"


class Scanner:
    """Signs reports under a key of its own."""

    def __init__(self, identifier: str = "a-scanner") -> None:
        self.identifier = identifier
        self._key = ec.generate_private_key(ec.SECP256R1())

    @property
    def published(self) -> dict[str, object]:
        """Its entry in a list of `public_keys`."""
        pem = self._key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        return {"key_identifier": self.identifier, "key": pem.decode(), "is_current": True}

    def sign(self, body: bytes) -> str:
        """The signature over `body`."""
        signature = self._key.sign(body, ec.ECDSA(hashes.SHA256()))
        return base64.b64encode(signature).decode()

    def headers(self, body: bytes) -> dict[str, str]:
        """What a report of `body` travels with."""
        return {
            "Content-Type": "application/json",
            IDENTIFIER: self.identifier,
            SIGNATURE: self.sign(body),
        }


def publish(path: Path, *scanners: Scanner) -> Path:
    """Write the public keys of `scanners` as GitHub publishes its own."""
    document = {"public_keys": [scanner.published for scanner in scanners]}
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def report(*tokens: str, **members: object) -> bytes:
    """A report of `tokens`, each found in the same place unless `members` says otherwise."""
    place: Mapping[str, object] = {
        "type": "authapi_token",
        "url": "https://github.com/octocat/Hello-World/blob/main/.env",
        "source": "content",
        **members,
    }
    return encoded({"token": token, **place} for token in tokens)


def encoded(items: Iterable[object]) -> bytes:
    """A body of these reports."""
    return json.dumps(list(items)).encode()
