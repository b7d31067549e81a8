"""Keys of other issuers: the algorithms that each key supports."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc import jwk as joserfc_jwk

from authapi.crypto import jwk, jws
from authapi.errors import TokenError, UnsupportedKey
from tests.crypto.external_signers import public_jwk, signature, signed
from tests.crypto.forgery import AUDIENCE, CLAIMS, ISSUER, NOW, b64

RSA_ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"]


def read(members: object, *algorithms: str) -> jwk.VerifyingKey:
    return jwk.read_jwk(
        members, algorithms=algorithms or jwk.VERIFIED_ALGORITHMS, kid_required=False
    )


def verify(token: str, *keys: jwk.VerifyingKey) -> jws.VerifiedToken:
    expected = jws.ValidationRules(ISSUER, (AUDIENCE,), types=(None,), external=True)
    return jws.verify(token, keys=jwk.keys_by_kid(keys), expected=expected, now=NOW)


@pytest.mark.parametrize("algorithm", jwk.VERIFIED_ALGORITHMS)
def test_token_of_each_algorithm_is_verified(algorithm: str) -> None:
    token = signed(algorithm, {"kid": "k"}, CLAIMS)
    pinned = read(public_jwk(algorithm, kid="k", alg=algorithm))
    assert verify(token, pinned).claims == CLAIMS
    assert (pinned.algorithm, dict(pinned.other_algorithms), pinned.jwk["alg"]) == (
        algorithm,
        {},
        algorithm,
    )
    assert verify(token, read(public_jwk(algorithm, kid="k"), algorithm)).claims == CLAIMS
    assert verify(token, read(public_jwk(algorithm, kid="k"))).claims == CLAIMS
    text, _, last = token.rpartition(".")
    for other in (last[:-8], last[4:], last[:10] + ("A" if last[10] != "A" else "B") + last[11:]):
        with pytest.raises(TokenError):
            verify(f"{text}.{other}", pinned)


@pytest.mark.parametrize("algorithm", jwk.VERIFIED_ALGORITHMS)
def test_key_is_pinned_to_its_algorithm(algorithm: str) -> None:
    key = read(public_jwk(algorithm, kid="k", alg=algorithm))
    for other in (*jwk.VERIFIED_ALGORITHMS, "none", "HS256", "HS384", "HS512", "ES256K"):
        if other == algorithm:
            continue
        with pytest.raises(TokenError):
            verify(signed(algorithm, {"kid": "k", "alg": other}, CLAIMS), key)
        if other in jwk.VERIFIED_ALGORITHMS:
            with pytest.raises(TokenError):
                verify(signed(other, {"kid": "k"}, CLAIMS), key)


def test_key_without_alg_supports_the_accepted_algorithms() -> None:
    key = read(public_jwk("RS256", kid="k"))
    assert [key.algorithm, *key.other_algorithms] == RSA_ALGORITHMS
    assert "alg" not in key.jwk
    few = read(public_jwk("RS256", kid="k"), "PS256", "RS512", "ES256")
    assert [few.algorithm, *few.other_algorithms] == ["RS512", "PS256"]
    with pytest.raises(TokenError):
        verify(signed("RS256", {"kid": "k"}, CLAIMS), few)
    for algorithm in ("ES256", "ES384", "ES512"):
        assert not read(public_jwk(algorithm)).other_algorithms


@pytest.mark.parametrize(
    ("algorithm", "members"),
    [
        *(("RS256", {"alg": other}) for other in ("ES256", "EdDSA", "HS256", "RSA-OAEP", "none")),
        ("RS256", {"alg": ["RS256"]}),
        ("RS256", {"alg": None}),
        ("ES256", {"alg": "ES384"}),
        ("ES384", {"alg": "ES256"}),
        ("ES512", {"alg": "ES521"}),
        ("EdDSA", {"alg": "ES256"}),
        ("EdDSA", {"crv": "X25519"}),
        ("EdDSA", {"crv": "Ed448"}),
        ("EdDSA", {"kty": "EC"}),
        ("EdDSA", {"x": b64(bytes(31))}),
        ("EdDSA", {"x": b64(bytes(33))}),
        ("ES384", {"crv": "P-256"}),
        ("ES256", {"crv": "P-384"}),
        ("ES256", {"crv": ["P-256"]}),
        ("ES256", {"kty": "OKP"}),
        ("RS256", {"use": "enc"}),
        ("RS256", {"use": None}),
        ("RS256", {"key_ops": ["sign"]}),
        ("RS256", {"key_ops": "verify"}),
        ("EdDSA", {"d": "AAAA"}),
        ("EdDSA", {"kid": ""}),
        ("EdDSA", {"kid": None}),
        ("EdDSA", {"kid": 7}),
    ],
    ids=str,
)
def test_inconsistent_key_is_rejected(algorithm: str, members: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedKey):
        read(public_jwk(algorithm, **members))


def test_symmetric_keys_and_unsupported_curves_are_rejected() -> None:
    for members in (
        {"kty": "oct", "k": b64(bytes(32))},
        {"kty": "oct", "k": b64(bytes(32)), "alg": "HS256", "kid": "k"},
        public_jwk("ES256K"),
        {"kty": "RSA", "n": b64(b"\xff" * 128), "e": "AQAB"},
    ):
        with pytest.raises(UnsupportedKey):
            read(members)


@pytest.mark.parametrize("algorithm", ["ES384", "ES512", "RS256", "EdDSA"])
def test_key_without_kid_has_its_thumbprint_as_kid(algorithm: str) -> None:
    members = public_jwk(algorithm)
    key = read(members)
    theirs = joserfc_jwk.import_key(members)  # type: ignore[arg-type]  # it wants its own dictionaries
    assert (key.kid, key.has_kid) == (theirs.thumbprint(), False)
    assert read(public_jwk(algorithm, kid="k")).has_kid
    with pytest.raises(UnsupportedKey):
        jwk.read_jwk(members, algorithms=jwk.VERIFIED_ALGORITHMS)


def test_own_keys_support_two_algorithms_only() -> None:
    assert jwk.read_jwk(public_jwk("RS256", kid="k")).algorithm == "RS256"
    for algorithm in ("PS256", "RS384", "ES384", "EdDSA"):
        with pytest.raises(UnsupportedKey):
            jwk.read_jwk(public_jwk(algorithm, kid="k", alg=algorithm))


def test_pss_salt_must_be_as_long_as_the_hash() -> None:
    key = read(public_jwk("PS256", kid="k"))
    text = signed("PS256", {"kid": "k"}, CLAIMS).rpartition(".")[0]
    verify(f"{text}.{b64(signature('PS256', text.encode()))}", key)
    for salt in (0, 20, 64):
        with pytest.raises(TokenError):
            verify(f"{text}.{b64(signature('PS256', text.encode(), salt=salt))}", key)


def test_ecdsa_signature_must_have_its_exact_length() -> None:
    for algorithm, size in (("ES384", 96), ("ES512", 132)):
        key = read(public_jwk(algorithm, kid="k"))
        text = signed(algorithm, {"kid": "k"}, CLAIMS).rpartition(".")[0]
        good = signature(algorithm, text.encode())
        assert len(good) == size
        for other in (b"\0" + good, good + b"\0", good[:-1], bytes(size), good[:32] * 2):
            with pytest.raises(TokenError):
                verify(f"{text}.{b64(other)}", key)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
MEMBERS = ("kty", "crv", "x", "y", "n", "e", "kid", "alg", "use", "key_ops", "issuer", "d")


@settings(deadline=None)
@given(
    algorithm=st.sampled_from(["ES384", "ES512", "RS256", "EdDSA"]),
    changes=st.dictionaries(st.sampled_from(MEMBERS), JSON, max_size=4),
)
def test_arbitrary_jwk_is_loaded_or_rejected(algorithm: str, changes: dict[str, Any]) -> None:
    try:
        key = read(public_jwk(algorithm, **changes))
    except UnsupportedKey:
        return
    assert {key.algorithm, *key.other_algorithms} <= set(jwk.VERIFIED_ALGORITHMS)
    assert key.for_algorithm("none") is None
