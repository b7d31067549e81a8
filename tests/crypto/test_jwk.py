"""JWKs: generation, loading, and rejection of unsupported keys."""

import base64
from collections.abc import Mapping
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st
from jose.jwk import ECKey
from joserfc import jwk as joserfc_jwk

from authapi.crypto import jwk, jws
from authapi.errors import ConfigurationError, UnsupportedKey
from tests.crypto.forgery import CLAIMS, NOW, expected, new_key
from tests.known_key import KEY

RSA_KEY = jwk.read_private_key(jwk.new_private_key("RS256"))
EC_JWK, RSA_JWK = dict(KEY.verifying.jwk), dict(RSA_KEY.verifying.jwk)


def der(private: Any) -> bytes:
    data: bytes = private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    return data


def number(value: int) -> str:
    data = value.to_bytes((value.bit_length() + 7) // 8 or 1)
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@pytest.mark.parametrize("key", [KEY, RSA_KEY], ids=["ES256", "RS256"])
def test_signature_is_verified_with_the_jwk(key: jwk.SigningKey) -> None:
    token = jws.sign(CLAIMS, key)
    read = jwk.read_jwk(dict(key.verifying.jwk))
    ring = jwk.keys_by_kid([read])
    assert jws.verify(token, keys=ring, expected=expected(), now=NOW) == jws.VerifiedToken(
        CLAIMS, read
    )


@pytest.mark.parametrize("key", [KEY, RSA_KEY], ids=["ES256", "RS256"])
def test_joserfc_loads_the_jwk_with_the_same_thumbprint(key: jwk.SigningKey) -> None:
    members = {name: key.verifying.jwk[name] for name in key.verifying.jwk if name != "kid"}
    read = joserfc_jwk.import_key(members)  # type: ignore[arg-type]  # it wants its own dictionaries
    assert read.thumbprint() == key.verifying.kid == key.verifying.jwk["kid"]


def test_jwk_contains_only_public_members() -> None:
    assert EC_JWK.keys() == {"kty", "crv", "x", "y", "kid", "alg", "use"}
    assert RSA_JWK.keys() == {"kty", "n", "e", "kid", "alg", "use"}
    assert len(base64.urlsafe_b64decode(RSA_JWK["n"] + "==")) == 3072 // 8


def test_keys_are_unique_and_not_in_their_repr() -> None:
    keys = [new_key() for _ in range(20)]
    assert len({key.verifying.kid for key in keys}) == 20
    assert "Key object" not in repr(keys[0])


def test_slow_jose_backend_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ECKey, "__module__", "jose.backends.ecdsa_backend")
    with pytest.raises(ConfigurationError, match="cryptography"):
        new_key()


@pytest.mark.parametrize(
    "private",
    [
        b"",
        b"x" * 100,
        der(ec.generate_private_key(ec.SECP384R1())),
        der(ec.generate_private_key(ec.SECP256K1())),
        der(ed25519.Ed25519PrivateKey.generate()),
        der(rsa.generate_private_key(public_exponent=65537, key_size=2048)),
    ],
    ids=["empty", "garbage", "P-384", "secp256k1", "Ed25519", "RSA-2048"],
)
def test_private_key_of_another_type_or_size_is_rejected(private: bytes) -> None:
    with pytest.raises(UnsupportedKey):
        jwk.read_private_key(private)


def test_public_rsa_key_of_2048_bits_is_accepted() -> None:
    public = rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key()
    numbers = public.public_numbers()
    members = {"kty": "RSA", "kid": "x", "n": number(numbers.n), "e": number(numbers.e)}
    assert jwk.read_jwk(members).algorithm == "RS256"


@pytest.mark.parametrize("members", [EC_JWK, RSA_JWK], ids=["EC", "RSA"])
@pytest.mark.parametrize(
    "changes",
    [
        {"alg": None},
        {"use": None},
        {"key_ops": ["verify"]},
        {"kid": "their own name"},
        {"x5c": ["AAAA"], "x5t": "x", "exp": 1},
    ],
    ids=str,
)
def test_optional_and_additional_members_are_accepted(
    members: Mapping[str, str], changes: Any
) -> None:
    changed = {**members, **changes}
    read = jwk.read_jwk({name: value for name, value in changed.items() if value is not None})
    assert read.kid == changed["kid"]
    assert read.jwk.keys() == members.keys()


OFF_THE_CURVE = {"x": number(1), "y": number(1)}


@pytest.mark.parametrize(
    "members",
    [
        None,
        [],
        "x",
        {},
        {"kty": "EC"},
        {**EC_JWK, "kid": None},
        {**EC_JWK, "kid": ""},
        {**EC_JWK, "kid": "x" * 256},
        {**EC_JWK, "kid": "x\n"},
        {**EC_JWK, "kid": 1},
        {**EC_JWK, "kty": "OKP"},
        {**EC_JWK, "kty": "oct", "k": "AAAA"},
        {**EC_JWK, "crv": "P-384"},
        {**EC_JWK, "crv": "secp256k1"},
        {**EC_JWK, "alg": "ES384"},
        {**EC_JWK, "alg": "RS256"},
        {**EC_JWK, "alg": "HS256"},
        {**EC_JWK, "alg": "none"},
        {**EC_JWK, "use": "enc"},
        {**EC_JWK, "key_ops": ["encrypt"]},
        {**EC_JWK, "key_ops": []},
        {**EC_JWK, "key_ops": "verify"},
        {**EC_JWK, "d": "AAAA"},
        {**EC_JWK, **OFF_THE_CURVE},
        {**EC_JWK, "x": number(0)},
        {**EC_JWK, "x": number(1 << 256)},
        {**EC_JWK, "x": EC_JWK["x"] + "="},
        {**EC_JWK, "x": 1},
        {**EC_JWK, "x": "A" * 100_000},
        {**RSA_JWK, "alg": "ES256"},
        {**RSA_JWK, "alg": "PS256"},
        {**RSA_JWK, "alg": "RS512"},
        {**RSA_JWK, "e": number(1)},
        {**RSA_JWK, "e": number(2)},
        {**RSA_JWK, "e": ""},
        {**RSA_JWK, "n": number((1 << 2047) - 1)},
        {**RSA_JWK, "n": number((1 << 16384) + 1)},
        {**RSA_JWK, "n": number(1 << 3071)},
        {**RSA_JWK, "n": "A" * 1_000_000},
        {**RSA_JWK, "d": "AAAA"},
    ],
    ids=range(40),
)
def test_unsupported_public_key_is_rejected(members: object) -> None:
    with pytest.raises(UnsupportedKey):
        jwk.read_jwk(members)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(
    base=st.sampled_from([EC_JWK, RSA_JWK]),
    changes=st.dictionaries(
        st.sampled_from(["kty", "crv", "x", "y", "n", "e", "kid", "alg", "use", "key_ops"]), JSON
    ),
)
def test_arbitrary_jwk_raises_only_unsupported_key(base: Any, changes: dict[str, Any]) -> None:
    try:
        read = jwk.read_jwk({**base, **changes})
    except UnsupportedKey:
        return
    assert read.algorithm in jwk.ALGORITHMS
