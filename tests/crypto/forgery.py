"""Builds arbitrary tokens, with valid or invalid signatures, as attackers do."""

import base64
import json
from collections.abc import Mapping
from typing import Any

import pytest

from authapi.crypto import jwk, jws
from authapi.errors import TokenError, UnknownKey
from tests.known_key import KEY

__all__ = ["KEY"]


def new_key(algorithm: jwk.Algorithm = "ES256") -> jwk.SigningKey:
    """Returns a new key."""
    return jwk.read_private_key(jwk.new_private_key(algorithm))


RING = jwk.keys_by_kid([KEY.verifying])
NOW = 1_800_000_000
ISSUER = "https://auth.example"
AUDIENCE = "example"
HEADER: Mapping[str, object] = {"alg": "ES256", "typ": "at+jwt", "kid": KEY.verifying.kid}
CLAIMS: Mapping[str, object] = {
    "iss": ISSUER,
    "sub": "0190c0de-0000-7000-8000-000000000000",
    "aud": AUDIENCE,
    "exp": NOW + 600,
    "iat": NOW,
    "jti": "one",
    "sid": "0190c0de-0000-7000-8000-000000000001",
}


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def forge(
    header: object = HEADER, claims: object = CLAIMS, *, key: jwk.SigningKey | None = KEY
) -> str:
    """Returns a token with a valid signature by `key`. Parts that are not bytes become JSON."""
    parts = [
        part if isinstance(part, bytes) else json.dumps(part).encode() for part in (header, claims)
    ]
    signed = ".".join(map(b64, parts))
    signature = b"" if key is None else key.key.sign(signed.encode())
    return f"{signed}.{b64(signature)}"


ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""The order of the base point of P-256 (FIPS 186-5; SEC 2, section 2.4.2)."""


def twin_of(token: str) -> str:
    """Returns `token` with its other valid ECDSA signature: (r, n - s) for (r, s)."""
    head, _, signature = token.rpartition(".")
    r, s = unb64(signature)[:32], int.from_bytes(unb64(signature)[32:])
    return f"{head}.{b64(r + (ORDER - s).to_bytes(32))}"


def without(parts: Mapping[str, object], name: str) -> dict[str, object]:
    return {key: value for key, value in parts.items() if key != name}


def raw(parts: Mapping[str, object], **texts: str) -> bytes:
    """Returns `parts` as JSON, with the members `texts` as given JSON text, valid or not."""
    texts = {name: json.dumps(value) for name, value in parts.items()} | texts
    members = [f"{json.dumps(name)}:{text}" for name, text in texts.items()]
    return ("{" + ",".join(members) + "}").encode()


def verify(token: object, *, now: float = NOW, max_lifetime: int | None = None) -> object:
    return jws.verify(
        token, keys=RING, expected=expected(max_lifetime=max_lifetime), now=now
    ).claims


def expected(**changes: Any) -> jws.ValidationRules:
    """Returns the default validation rules of these tests with `changes`."""
    return jws.ValidationRules(**{"issuer": ISSUER, "audiences": (AUDIENCE,), **changes})


def refused(token: object, *, now: float = NOW, max_lifetime: int | None = None) -> None:
    """Asserts that `token` is rejected by an error without any data of the token."""
    with pytest.raises(TokenError) as caught:
        verify(token, now=now, max_lifetime=max_lifetime)
    assert type(caught.value) in (TokenError, UnknownKey)
    assert caught.value.args == ()
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None or caught.value.__suppress_context__
