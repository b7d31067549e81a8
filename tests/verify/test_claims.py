"""Claims of issuers: mapped to an identity or rejected, and never a crash."""

import copy
import pickle
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
import time_machine
from hypothesis import given, settings
from hypothesis import strategies as st

from authapi.domain.identity import NO_CLAIMS, Claims, Identity
from authapi.errors import InvalidCredential, TokenError
from authapi.outbound.issuers.metadata import Published
from authapi.testing.strategy_harness import connection
from authapi.verify import RemoteJWT
from authapi.verify.claims import ClaimsReader
from tests.crypto import forgery

NOW = forgery.NOW
ISSUER = "https://auth.example"
READER = ClaimsReader("jwt", ISSUER, True, ("scope", "scp"))
BASE: Mapping[str, object] = {
    "iss": ISSUER,
    "sub": "somebody",
    "aud": "orders",
    "iat": NOW,
    "exp": NOW + 600,
}

anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=40),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
names = st.sampled_from(
    [
        *("sub", "sid", "scope", "scp", "auth_time", "amr", "email", "email_verified", "name"),
        *("iat", "exp", "nbf", "aud", "iss", "jti", "other"),
    ]
)


def read(**claims: object) -> Identity:
    with time_machine.travel(NOW, tick=False):
        return READER.read_identity({**BASE, **claims})


@settings(deadline=None)
@given(st.dictionaries(names, anything, max_size=6))
def test_arbitrary_claims_give_an_identity_or_a_rejection(claims: dict[str, object]) -> None:
    try:
        identity = read(**claims)
    except TokenError:
        return
    assert isinstance(identity.user.id, UUID)
    assert not identity.user.is_superuser
    assert identity.user.email.isprintable()
    assert "" not in identity.scopes
    if claims.get("auth_time") is not None:
        assert identity.auth_time <= datetime.fromtimestamp(NOW + 30, UTC)
    if identity.user.email_confirmed_at is not None:
        assert claims["email_verified"] is True
    hash(identity)
    assert copy.deepcopy(identity) == identity


@settings(deadline=None)
@given(st.dictionaries(names, anything, max_size=4))
async def test_signed_token_with_arbitrary_claims_never_crashes(claims: dict[str, object]) -> None:
    # The whole path of a token with a valid signature and arbitrary claims.
    strategy = RemoteJWT(ISSUER, "orders")
    strategy._keys._store(Published(forgery.RING, None))
    token = forgery.forge(claims={**BASE, **claims})
    with time_machine.travel(NOW, tick=False):
        try:
            identity = await strategy.authenticate(token, connection({}))
        except InvalidCredential:
            return
    assert isinstance(identity, Identity)


@pytest.mark.parametrize(
    "claims",
    [
        {"email": 7},
        {"email": "a@example.com\r\nX: y"},
        {"email": "a b@example.com"},
        {"email": "a" * 321},
        {"name": ["Alice"]},
        {"name": "a" * 1025},
        {"scope": 7},
        {"scope": {"orders:read": True}},
        {"scp": [7]},
        {"amr": "pwd"},
        {"amr": ["pwd", 7]},
        {"auth_time": "yesterday"},
        {"auth_time": True},
        {"auth_time": -1},
        {"auth_time": NOW + 31},
        {"auth_time": 1e300},
        {"exp": 1 << 52},
        {"iat": 1 << 52},
        {"sub": "\x7f"},
    ],
    ids=str,
)
def test_malformed_claims_are_rejected(claims: dict[str, object]) -> None:
    with pytest.raises(TokenError) as caught:
        read(**claims)
    assert caught.value.args == ()


@pytest.mark.parametrize(
    ("claims", "scopes"),
    [
        ({}, set()),
        ({"scope": ""}, set()),
        ({"scope": "a  b a"}, {"a", "b"}),
        ({"scp": "a b"}, {"a", "b"}),
        ({"scp": ["a", "b c"]}, {"a", "b c"}),
        ({"scope": "a", "scp": ["b"]}, {"a", "b"}),
        ({"scope": None}, set()),
        ({"permissions": ["a"], "roles": ["b"], "groups": ["c"]}, set()),
    ],
    ids=range(8),
)
def test_scopes_are_read_from_scope_claims(claims: dict[str, object], scopes: set[str]) -> None:
    assert read(**claims).scopes == scopes


@pytest.mark.parametrize(
    ("claims", "amr"),
    [
        ({}, ()),
        ({"amr": ["pwd"]}, ()),
        ({"auth_time": NOW}, ("unspecified",)),
        ({"auth_time": NOW, "amr": None}, ("unspecified",)),
        ({"auth_time": NOW, "amr": []}, ()),
        ({"auth_time": NOW, "amr": ["pwd", "otp"]}, ("pwd", "otp")),
    ],
    ids=range(6),
)
def test_auth_time_and_amr_are_read(claims: dict[str, object], amr: tuple[str, ...]) -> None:
    assert read(**claims).amr == amr


def test_user_is_built_from_claims() -> None:
    user = read(email="a@example.com", email_verified=True, name="Alice \u200d A.").user
    at = datetime.fromtimestamp(NOW, UTC)
    assert (user.email, user.name) == ("a@example.com", "Alice \u200d A.")
    assert (user.email_confirmed_at, user.created_at, user.updated_at) == (at, at, at)
    assert (user.is_active, user.is_superuser) == (True, False)
    bare = read(email=None, name=None).user
    assert (bare.email, bare.name, bare.email_confirmed_at) == ("", None, None)


def test_issuers_never_share_a_user_id() -> None:
    other = ClaimsReader("other", "https://other.example", False, ("scope",))
    subjects = ["somebody", "0190c0de-0000-7000-8000-000000000000", "a", "b"]
    # Nor if one issuer writes the derived id of a user of the other.
    subjects += [str(other.user_id(subject)) for subject in subjects]
    ids = [reader.user_id(subject) for reader in (READER, other) for subject in subjects]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize(
    ("sid", "session"),
    [
        ("0190c0de-0000-7000-8000-000000000001", UUID("0190c0de-0000-7000-8000-000000000001")),
        *(
            (sid, None)
            for sid in ("abc", "", 7, None, ["x"], "0190C0DE-0000-7000-8000-000000000001")
        ),
    ],
)
def test_sid_that_is_not_a_uuid_is_ignored(sid: object, session: UUID | None) -> None:
    assert read(sid=sid).session_id == session


def test_claims_are_immutable() -> None:
    given_claims: dict[str, Any] = {"address": {"lines": ["a", {"b": 1}]}, "n": 7}
    claims = Claims(given_claims)
    given_claims["n"] = 8
    assert claims["n"] == 7
    assert claims["address"] == {"lines": ("a", {"b": 1})}
    for change in ("__setitem__", "append", "update", "pop"):
        assert not hasattr(claims, change)
        assert not hasattr(claims["address"], change)
    assert pickle.loads(pickle.dumps(claims)) == claims
    assert "7" not in repr(claims)
    assert (len(claims), list(claims)) == (2, ["address", "n"])


def test_local_identity_has_no_claims() -> None:
    identity = read()
    assert identity.claims["iss"] == ISSUER
    plain = Identity(*(identity.user, "jwt", None, frozenset(), identity.auth_time, ("pwd",), None))
    assert plain.claims is NO_CLAIMS
    assert asdict(plain)["claims"] == {}
