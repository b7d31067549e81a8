"""Tools of the attacks: forged tokens, hostile JSON, and all operations of the API."""

import base64
import hmac
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from starlette.requests import HTTPConnection

from authapi import Challenge, Identity, Issued, Issuer
from authapi.crypto.passwords import PasswordHash, PasswordHasher
from authapi.services import Login
from authapi.testing import PASSWORD, Client
from tests.known_key import FOREIGN, KEY

__all__ = ["FOREIGN", "KEY"]

SECRET = "4f1c0b7e9a2d8365b7c1e4d09f38a652"
"""The secret of the services under attack. Their signing key is `KEY` (fixture `known_key`)."""


Signer = Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path of the OpenAPI document."""

    method: str
    template: str
    strategies: tuple[str, ...]
    """The accepted kinds of credentials; empty if the operation is public."""
    content_type: str | None
    schema: Mapping[str, Any]
    """The schema of the body, with references resolved."""

    @property
    def path(self) -> str:
        """The path, with an id that does not exist."""
        before, brace, after = self.template.partition("{")
        return before + str(uuid4()) + after.partition("}")[2] if brace else before


def operations(document: Mapping[str, Any]) -> list[Operation]:
    """Every operation of an OpenAPI document."""
    return list(_operations(document))


def _operations(document: Mapping[str, Any]) -> Iterator[Operation]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            content = operation.get("requestBody", {}).get("content", {})
            kind = next(iter(content), None)
            schema = content[kind]["schema"] if kind else {}
            if "$ref" in schema:
                schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
            security = operation.get("security", ())
            needed = () if {} in security else security
            names = tuple(name for alternative in needed for name in alternative)
            yield Operation(method.upper(), path, names, kind, schema)


def b64(data: bytes) -> str:
    """base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64(text: str) -> bytes:
    """Decodes the result of `b64`."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def claims_of(token: str) -> dict[str, Any]:
    """The claims of a JWT, without verification."""
    found: dict[str, Any] = json.loads(unb64(token.split(".")[1]))
    return found


def header(**changes: object) -> dict[str, object]:
    """The JOSE header of access tokens, with changes."""
    return {"alg": "ES256", "typ": "at+jwt", "kid": KEY.verifying.kid} | changes


def forge(head: object, claims: object, sign: Signer = KEY.key.sign) -> str:
    """A token of exactly these parts (bytes unchanged, other values as JSON), signed by `sign`."""
    parts = [
        part if isinstance(part, bytes) else json.dumps(part).encode() for part in (head, claims)
    ]
    signed = ".".join(map(b64, parts))
    return f"{signed}.{b64(sign(signed.encode()))}"


def mac(secret: bytes, digest: str = "sha256") -> Signer:
    """Signs with HMAC, as HS256, HS384 and HS512 do."""
    return lambda data: hmac.digest(secret, data, digest)


def public_key_spellings() -> dict[str, bytes]:
    """The public key, in every form that libraries have used as an HMAC secret."""
    numbers = ec.EllipticCurvePublicNumbers(
        x=int.from_bytes(unb64(KEY.verifying.jwk["x"])),
        y=int.from_bytes(unb64(KEY.verifying.jwk["y"])),
        curve=ec.SECP256R1(),
    )
    key = numbers.public_key()
    pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return {
        "PEM": pem,
        "PEM without its last newline": pem.strip(),
        "OpenSSH": key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH),
        "DER": key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        "X9.62": key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint),
        "X9.62 compressed": key.public_bytes(Encoding.X962, PublicFormat.CompressedPoint),
        "JWK": json.dumps(dict(KEY.verifying.jwk)).encode(),
        "JWK x": unb64(KEY.verifying.jwk["x"]),
        "nothing": b"",
    }


def bearer(token: str | bytes) -> dict[bytes, bytes]:
    """The Authorization header with a token of any bytes (RFC 6750)."""
    raw = token if isinstance(token, bytes) else token.encode("utf-8", "surrogateescape")
    return {b"authorization": b"Bearer " + raw}


def basic(user: str, password: str) -> dict[bytes, bytes]:
    """The Authorization header of Basic authentication (RFC 7617)."""
    return {b"authorization": b"Basic " + base64.b64encode(f"{user}:{password}".encode())}


def cookie(value: str, name: str = "authapi") -> dict[bytes, bytes]:
    """The Cookie header of a cookie session."""
    return {b"cookie": f"{name}={value}".encode()}


async def credentials(
    api: Client, email: str, *, password: str = PASSWORD
) -> dict[str, dict[bytes, bytes]]:
    """Log in with each strategy over HTTP. Returns the request headers by strategy."""
    found: dict[str, dict[bytes, bytes]] = {}
    for strategy in ("session", "token", "jwt"):
        body = {"email": email, "password": password, "strategy": strategy}
        answer = await api.post("/login", json=body)
        assert answer.status_code == 200, answer.text
        if strategy == "session":
            found[strategy] = cookie(answer.cookies["authapi"])
            api.cookies.clear()
        else:
            found[strategy] = bearer(answer.json()["access_token"])
    return found


def comparable(answer: httpx.Response) -> tuple[int, dict[str, object], list[str]]:
    """The parts of a response to compare: status, body without the request id, challenges."""
    body = {name: value for name, value in answer.json().items() if name != "request_id"}
    return answer.status_code, body, answer.headers.get_list("www-authenticate")


HOSTILE_JSON: Mapping[str, bytes] = {
    # The 19 files of JSONTestSuite that an unmodified FastAPI answers with 500 ...
    "lone high surrogate": rb'"\ud800"',
    "lone low surrogate": rb'"\udc00"',
    "reversed pair": rb'"\udc00\ud800"',
    "high and letter": rb'"\ud800a"',
    "high and escape": rb'"\ud800\n"',
    "two highs": rb'"\ud800\ud800"',
    "surrogate as name": rb'{"\ud800": 1}',
    "NUL": rb'"a\u0000b"',
    "NUL as name": rb'{"\u0000": 1}',
    "NaN": b"NaN",
    "Infinity": b"Infinity",
    "minus Infinity": b"-Infinity",
    "huge exponent": b"1e400",
    "huge negative": b"-1e+9999",
    "tiny exponent": b"123.456e-789",
    "long integer": b"9" * 5000,
    "nested arrays": b"[" * 5000 + b"]" * 5000,
    "open arrays": b"[" * 20000,
    "nested objects": b'{"a":' * 5000 + b"1" + b"}" * 5000,
    # ... and other texts that are ambiguous or invalid.
    "name twice": b'{"a": 1, "a": 2}',
    "byte order mark": b"\xef\xbb\xbf{}",
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "raw surrogate": b'"\xed\xa0\x80"',
    "overlong slash": b'"\xc0\xaf"',
    "cut in a character": b'"\xe2\x82"',
    "latin-1": b'"\xe9"',
    "raw control": b'"\x01"',
    "trailing comma": b'{"a": 1,}',
    "comment": b'{"a": 1 /* */}',
    "single quotes": b"{'a': 1}",
    "bare word": b"undefined",
    "cut": b'{"email": "a',
    "two values": b"{}{}",
    "nothing but space": b" ",
    "form feed": b"\x0c{}",
    "empty name": b'{"": {"": []}}',
    "prototype": b'{"__proto__": {"is_superuser": true}}',
    "operator": b'{"$ne": null}',
    "true": b"true",
    "null": b"null",
    "number": b"0",
    "minus zero": b"-0.0",
    "text": b'"x"',
    "list": b"[[[]]]",
}
"""Unusual, ambiguous and invalid JSON, by description."""


class Crashing(Issuer[str]):
    """A custom strategy each method of which raises an error."""

    name = "crashing"

    def read(self, connection: HTTPConnection) -> str | None:
        return connection.headers.get("x-crash")

    async def authenticate(self, credential: str, connection: HTTPConnection) -> Identity:
        raise LookupError("a hook of the importing application failed")

    async def issue(
        self, login: Login, connection: HTTPConnection, *, remember: bool = False
    ) -> Issued:
        raise LookupError("a hook of the importing application failed")

    def challenge(self) -> Challenge:
        return Challenge("Crashing")

    def openapi(self) -> Mapping[str, object]:
        return {"type": "apiKey", "in": "header", "name": "X-Crash"}


def count_verifications(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Returns the list of the passwords that are verified from now on."""
    seen: list[str] = []
    verify = PasswordHasher.verify

    def counted(self: PasswordHasher, password: str, stored: PasswordHash | None) -> None:
        seen.append(password)
        verify(self, password, stored)

    monkeypatch.setattr(PasswordHasher, "verify", counted)
    return seen
