"""Tokens of this service: format, compatibility with other libraries, and validity period."""

import base64
import hashlib
import json
from datetime import UTC, datetime

import jwt as pyjwt
import pytest
from joserfc import jwk as joserfc_jwk
from joserfc import jwt as joserfc_jwt

from authapi.crypto import jwk, jws
from tests.crypto.forgery import (
    AUDIENCE,
    CLAIMS,
    HEADER,
    ISSUER,
    KEY,
    NOW,
    RING,
    expected,
    forge,
    new_key,
    raw,
    refused,
    unb64,
    verify,
    without,
)

PUBLIC = dict(KEY.verifying.jwk)


def test_signed_token_is_verified() -> None:
    assert verify(jws.sign(CLAIMS, KEY)) == CLAIMS


def test_token_has_three_segments_and_a_minimal_header() -> None:
    header, payload, signature = jws.sign(CLAIMS, KEY).split(".")
    assert json.loads(unb64(header)) == HEADER
    assert json.loads(unb64(payload)) == CLAIMS
    assert len(unb64(signature)) == 64


def test_sign_does_not_modify_the_claims() -> None:
    claims = {**CLAIMS, "exp": datetime.fromtimestamp(NOW, UTC)}  # which python-jose overwrites
    before = dict(claims)
    jws.sign(claims, KEY)
    assert claims == before


def test_pyjwt_verifies_our_tokens() -> None:
    token = jws.sign({**CLAIMS, "exp": 4_000_000_000, "iat": 1_000_000_000}, KEY)
    key = pyjwt.PyJWK(PUBLIC)
    read = pyjwt.decode(token, key, algorithms=["ES256"], audience=AUDIENCE, issuer=ISSUER)
    assert read["sub"] == CLAIMS["sub"]
    assert pyjwt.get_unverified_header(token) == HEADER


def test_joserfc_verifies_our_tokens_with_the_same_kid() -> None:
    key = joserfc_jwk.ECKey.import_key(KEY.verifying.key.to_pem())
    assert joserfc_jwt.decode(jws.sign(CLAIMS, KEY), key).claims == CLAIMS
    assert key.thumbprint() == KEY.verifying.kid


def test_jwk_has_no_private_members() -> None:
    assert PUBLIC.keys() == {"kty", "crv", "x", "y", "kid", "alg", "use"}
    assert (PUBLIC["kty"], PUBLIC["crv"], PUBLIC["alg"]) == ("EC", "P-256", "ES256")
    assert len(unb64(PUBLIC["x"])) == len(unb64(PUBLIC["y"])) == 32


def test_private_key_is_not_in_the_repr() -> None:
    assert "Key object" not in repr(KEY)
    assert "PRIVATE" not in repr(KEY)


def test_key_is_selected_by_kid() -> None:
    other = new_key()
    ring = jwk.keys_by_kid([KEY.verifying, other.verifying])
    for key in (KEY, other):
        token = jws.sign(CLAIMS, key)
        assert jws.verify(token, keys=ring, expected=expected(), now=NOW).claims == CLAIMS


@pytest.mark.parametrize(
    ("changes", "now"),
    [
        ({}, NOW + 599),
        ({}, NOW + 599.999),
        ({}, NOW - 30),
        ({"nbf": NOW}, NOW),
        ({"exp": NOW + 0.5, "iat": NOW - 0.5}, NOW),
        ({"exp": (1 << 53) - 1}, NOW),
        ({"aud": [AUDIENCE]}, NOW),
        ({"aud": ["another", AUDIENCE]}, NOW),
        ({"sub": "x" * 255, "jti": "~"}, NOW),
        ({"scope": "a b", "amr": ["pwd"], "ö": {"é": [None]}}, NOW),
    ],
    ids=range(10),
)
def test_valid_tokens_are_accepted(changes: dict[str, object], now: float) -> None:
    claims = {**CLAIMS, **changes}
    assert verify(forge(claims=claims), now=now) == claims


def test_token_expires_at_exp() -> None:
    token = forge()
    verify(token, now=NOW + 599.9)
    refused(token, now=NOW + 600)
    refused(token, now=NOW + 601)


def test_token_is_invalid_before_nbf() -> None:
    verify(forge(), now=NOW - 30)
    refused(forge(), now=NOW - 31)
    refused(forge(claims={**CLAIMS, "nbf": NOW + 1}))
    refused(forge(claims={**CLAIMS, "iat": NOW + 601}), now=NOW + 599)


def test_max_lifetime_is_enforced() -> None:
    assert verify(forge(), max_lifetime=600) == CLAIMS
    refused(forge(), max_lifetime=599)


@pytest.mark.parametrize("name", ["iss", "sub", "aud", "exp", "iat", "jti"])
def test_missing_claim_is_rejected(name: str) -> None:
    refused(forge(claims=without(CLAIMS, name)))


def test_typ_must_match() -> None:
    refresh = forge(header={**HEADER, "typ": "refresh+jwt"})
    refused(refresh)
    theirs = expected(types=("refresh+jwt",))
    found = jws.verify(refresh, keys=RING, expected=theirs, now=NOW)
    assert found.claims == CLAIMS


def test_tokens_signed_by_another_key_are_rejected() -> None:
    stranger = new_key()
    refused(jws.sign(CLAIMS, stranger))
    refused(forge(key=stranger))  # with our kid
    refused(
        forge(raw(HEADER, kid=json.dumps(stranger.verifying.kid)))
    )  # our key with the other kid


def test_thumbprint_of_rfc_7638() -> None:
    members = {name: PUBLIC[name] for name in ("crv", "kty", "x", "y")}
    digest = hashlib.sha256(json.dumps(members, separators=(",", ":")).encode()).digest()
    assert KEY.verifying.kid == base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
