"""Secrets: their form, the checksum that notices a slip, and the hash that is kept."""

import base64
import hashlib
import re
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
"""Written down once: tokens that people have must stay tokens."""


def test_a_secret_is_256_random_bits() -> None:
    secret = new_secret()
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", secret)
    assert len(base64.urlsafe_b64decode(secret + "=")) == 32
    assert is_secret(secret)


def test_a_token_is_a_prefix_a_secret_and_a_checksum() -> None:
    token = new_opaque_token()
    assert re.fullmatch(r"aat_[A-Za-z0-9_-]{49}", token)
    assert is_secret(token[4:47])
    assert is_opaque_token(token)
    assert is_opaque_token(TOKEN)


def test_no_two_are_alike() -> None:
    assert len({new_secret() for _ in range(2000)}) == 2000
    assert len({new_opaque_token()[:47] for _ in range(2000)}) == 2000
    # Every bit of a secret is random, not only their sum: none stays as it is.
    raw = [int.from_bytes(base64.urlsafe_b64decode(new_secret() + "=")) for _ in range(64)]
    always, never = (1 << 256) - 1, 0
    for number in raw:
        always &= number
        never |= number
    assert always == 0
    assert never == (1 << 256) - 1


def test_every_change_of_one_character_is_noticed() -> None:
    others = ALPHABET + "=+/. \n\0é\ud800"
    for position, right in enumerate(TOKEN):
        for wrong in others.replace(right, ""):
            assert not is_opaque_token(TOKEN[:position] + wrong + TOKEN[position + 1 :])


def test_every_swap_of_neighbours_is_noticed() -> None:
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
def test_no_token(text: str) -> None:
    assert not is_opaque_token(text)


@settings(max_examples=300, derandomize=True, deadline=None)
@given(st.text(min_size=43, max_size=43) | st.text(ALPHABET + "=+/\n", min_size=43, max_size=43))
def test_only_what_encoding_gives_is_a_secret(text: str) -> None:
    spelt = is_secret(text)
    assert not is_opaque_token("aat_" + text + "AAAAAA") or spelt
    if spelt:
        raw = base64.urlsafe_b64decode(text + "=")
        assert base64.urlsafe_b64encode(raw).decode() == text + "="


@pytest.mark.parametrize("last", ["A", "E", "g", "8"])
def test_256_bits_have_one_spelling(last: str) -> None:
    # The last of 43 characters carries 4 bits, so 4 of them say the same.
    secret = new_secret()[:-1] + last
    same = [
        secret[:-1] + other
        for other in ALPHABET
        if base64.urlsafe_b64decode(secret[:-1] + other + "=")
        == base64.urlsafe_b64decode(secret + "=")
    ]
    assert len(same) == 4
    assert [text for text in same if is_secret(text)] == [secret]


def test_a_secret_has_43_characters() -> None:
    secret = new_secret()
    assert not any(map(is_secret, ["", secret[:-1], secret + "A", secret + "=", secret + "\n"]))


def test_the_hash_is_sha256_of_the_text() -> None:
    assert hash_secret("abc") == SecretHash(hashlib.sha256(b"abc").digest())
    assert hash_secret("abc") != hash_secret("abd")


def test_a_hash_does_not_show_itself() -> None:
    assert repr(hash_secret("abc")) == "SecretHash()"
