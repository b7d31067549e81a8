"""Secrets: format, checksum and hash."""

import base64
import hashlib
import re
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from authapi.crypto import base64url
from authapi.crypto.secrets import (
    SecretHash,
    hash_secret,
    is_opaque_token,
    is_secret,
    new_opaque_token,
    new_secret,
)

ALPHABET = string.ascii_letters + string.digits + "-_"
TOKEN = "aat_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWYB437kQ"
"""Recorded once: tokens that users have must stay valid."""


def test_secret_has_256_random_bits() -> None:
    secret = new_secret()
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", secret)
    assert len(base64.urlsafe_b64decode(secret + "=")) == 32
    assert is_secret(secret)


def test_token_is_prefix_secret_and_checksum() -> None:
    token = new_opaque_token()
    assert re.fullmatch(r"aat_[A-Za-z0-9_-]{49}", token)
    assert is_secret(token[4:47])
    assert is_opaque_token(token)
    assert is_opaque_token(TOKEN)


def test_values_are_unique() -> None:
    assert len({new_secret() for _ in range(2000)}) == 2000
    assert len({new_opaque_token()[:47] for _ in range(2000)}) == 2000
    # Every single bit of a secret is random: none is constant.
    raw = [int.from_bytes(base64.urlsafe_b64decode(new_secret() + "=")) for _ in range(64)]
    always, never = (1 << 256) - 1, 0
    for number in raw:
        always &= number
        never |= number
    assert always == 0
    assert never == (1 << 256) - 1


def test_checksum_detects_every_changed_character() -> None:
    others = ALPHABET + "=+/. \n\0é\ud800"
    for position, right in enumerate(TOKEN):
        for wrong in others.replace(right, ""):
            assert not is_opaque_token(TOKEN[:position] + wrong + TOKEN[position + 1 :])


def test_checksum_detects_every_swap_of_neighbours() -> None:
    for position in range(len(TOKEN) - 1):
        first, second = TOKEN[position], TOKEN[position + 1]
        swapped = TOKEN[:position] + second + first + TOKEN[position + 2 :]
        assert is_opaque_token(swapped) == (first == second)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "aat_",
        TOKEN[:-1],
        TOKEN + "A",
        TOKEN + "\n",
        " " + TOKEN,
        TOKEN.upper(),
        TOKEN.removeprefix("aat_"),
        "AAT_" + TOKEN[4:],
        TOKEN.replace("aat_", "aat-"),
        "é" * 53,
        "\ud800" * 53,
        "aat_" * 100_000,
    ],
    ids=range(13),
)
def test_malformed_texts_are_not_tokens(text: str) -> None:
    assert not is_opaque_token(text)


@settings(max_examples=300, derandomize=True, deadline=None)
@given(st.text(min_size=43, max_size=43) | st.text(ALPHABET + "=+/\n", min_size=43, max_size=43))
def test_only_canonical_encodings_are_secrets(text: str) -> None:
    spelt = is_secret(text)
    assert not is_opaque_token("aat_" + text + "AAAAAA") or spelt
    if spelt:
        raw = base64.urlsafe_b64decode(text + "=")
        assert base64.urlsafe_b64encode(raw).decode() == text + "="


@pytest.mark.parametrize("last", ["A", "E", "g", "8"])
def test_256_bits_have_one_encoding(last: str) -> None:
    # The last of the 43 characters has 4 used bits, so 4 characters encode the same bits.
    secret = new_secret()[:-1] + last
    same = [
        secret[:-1] + other
        for other in ALPHABET
        if base64.urlsafe_b64decode(secret[:-1] + other + "=")
        == base64.urlsafe_b64decode(secret + "=")
    ]
    assert len(same) == 4
    assert [text for text in same if is_secret(text)] == [secret]


def test_secret_has_43_characters() -> None:
    secret = new_secret()
    assert not any(map(is_secret, ["", secret[:-1], secret + "A", secret + "=", secret + "\n"]))


def test_hash_is_sha256_of_the_text() -> None:
    assert hash_secret("abc") == SecretHash(hashlib.sha256(b"abc").digest())
    assert hash_secret("abc") != hash_secret("abd")


def test_hash_is_not_in_its_repr() -> None:
    assert repr(hash_secret("abc")) == "SecretHash()"


@given(st.text(alphabet=st.sampled_from("ABCZaz09-_+/= \n."), min_size=40, max_size=46))
def test_is_secret_accepts_exactly_the_canonical_base64url_of_32_bytes(text: str) -> None:
    try:
        is_canonical = len(base64url.decode(text)) == 32
    except ValueError:
        is_canonical = False
    assert is_secret(text) == is_canonical


@given(st.binary(min_size=32, max_size=32), st.characters(codec="utf-8"))
def test_is_secret_accepts_one_last_character_of_each_group(data: bytes, last: str) -> None:
    text = base64url.encode(data)
    assert is_secret(text)
    try:
        is_canonical = base64url.encode(base64url.decode(text[:-1] + last)) == text[:-1] + last
    except ValueError:
        is_canonical = False
    assert is_secret(text[:-1] + last) == is_canonical
