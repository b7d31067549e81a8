"""A secret scanner that signs reports of leaked tokens, as GitHub does."""

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
    """A scanner with its own signing key."""

    def __init__(self, identifier: str = "a-scanner") -> None:
        self.identifier = identifier
        self._key = ec.generate_private_key(ec.SECP256R1())

    @property
    def published(self) -> dict[str, object]:
        """The entry of its key in `public_keys`."""
        pem = self._key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        return {"key_identifier": self.identifier, "key": pem.decode(), "is_current": True}

    def sign(self, body: bytes) -> str:
        """Returns the signature of `body`."""
        signature = self._key.sign(body, ec.ECDSA(hashes.SHA256()))
        return base64.b64encode(signature).decode()

    def headers(self, body: bytes) -> dict[str, str]:
        """Returns the request headers of a report with this `body`."""
        return {
            "Content-Type": "application/json",
            IDENTIFIER: self.identifier,
            SIGNATURE: self.sign(body),
        }


def publish(path: Path, *scanners: Scanner) -> Path:
    """Writes the public keys of `scanners` to a file in GitHub's format."""
    document = {"public_keys": [scanner.published for scanner in scanners]}
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def report(*tokens: str, **members: object) -> bytes:
    """Returns the body of a report of `tokens`; `members` override those of each item."""
    place: Mapping[str, object] = {
        "type": "authapi_token",
        "url": "https://github.com/octocat/Hello-World/blob/main/.env",
        "source": "content",
        **members,
    }
    return encoded({"token": token, **place} for token in tokens)


def encoded(items: Iterable[object]) -> bytes:
    """Returns a body with these items."""
    return json.dumps(list(items)).encode()
