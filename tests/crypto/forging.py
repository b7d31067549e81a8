"""Tokens as attackers and careless issuers make them: any bytes, properly signed or not."""

import base64
import json
from collections.abc import Mapping

import pytest

from authapi.crypto import jws
from authapi.errors import TokenError

KEY = jws.derive_signing_key(b"the secret of these tests, which nobody else has")
RING = jws.key_ring([KEY.verifying])
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
    header: object = HEADER, claims: object = CLAIMS, *, key: jws.SigningKey | None = KEY
) -> str:
    """A token of these parts (bytes as they are, else as JSON) with a good signature by `key`."""
    parts = [
        part if isinstance(part, bytes) else json.dumps(part).encode() for part in (header, claims)
    ]
    signed = ".".join(map(b64, parts))
    signature = b"" if key is None else key.key.sign(signed.encode())
    return f"{signed}.{b64(signature)}"


def without(parts: Mapping[str, object], name: str) -> dict[str, object]:
    return {key: value for key, value in parts.items() if key != name}


def raw(parts: Mapping[str, object], **texts: str) -> bytes:
    """`parts` as JSON, with some members as JSON text: also such that no writer writes."""
    texts = {name: json.dumps(value) for name, value in parts.items()} | texts
    members = [f"{json.dumps(name)}:{text}" for name, text in texts.items()]
    return ("{" + ",".join(members) + "}").encode()


def verify(token: object, *, now: float = NOW, max_lifetime: int | None = None) -> object:
    return jws.verify(
        token,
        keys=RING,
        issuer=ISSUER,
        audience=AUDIENCE,
        now=now,
        max_lifetime=max_lifetime,
    )


def refused(token: object, *, now: float = NOW, max_lifetime: int | None = None) -> None:
    """The one refusal, which holds and shows nothing of the token nor of a reason."""
    with pytest.raises(TokenError) as caught:
        verify(token, now=now, max_lifetime=max_lifetime)
    assert type(caught.value) is TokenError
    assert caught.value.args == ()
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None or caught.value.__suppress_context__
