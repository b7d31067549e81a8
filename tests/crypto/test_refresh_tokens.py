"""Refresh tokens: format, family, and derivation of the successor."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authapi.crypto.refresh_tokens import (
    RefreshToken,
    new_nonce,
    new_refresh_token,
    parse_refresh_token,
)
from authapi.crypto.secrets import is_opaque_token, is_secret

TOKEN = new_refresh_token()


def test_token_format() -> None:
    for _ in range(200):
        token = new_refresh_token()
        assert re.fullmatch(r"art_[A-Za-z0-9_-]{70}", token.text)
        assert parse_refresh_token(token.text) == token
        assert not is_opaque_token(token.text)
        assert not is_secret(token.text)


def test_token_is_not_in_its_repr() -> None:
    assert TOKEN.text[4:] not in repr(TOKEN)
    assert repr(TOKEN) == "RefreshToken()"


def test_values_are_unique() -> None:
    made = [new_refresh_token() for _ in range(500)]
    for part in ("family", "secret", "text", "hash", "family_hash"):
        assert len({getattr(token, part) for token in made}) == 500, part


def test_successor_needs_the_token_and_the_nonce() -> None:
    nonce = new_nonce()
    following = TOKEN.successor(nonce)
    assert following == TOKEN.successor(nonce), "the same again for who lost it"
    assert following.family_hash == TOKEN.family_hash
    assert following.secret != TOKEN.secret
    assert parse_refresh_token(following.text) == following
    others = {
        TOKEN.successor(new_nonce()).secret,
        new_refresh_token().successor(nonce).secret,
        following.successor(nonce).secret,
    }
    assert following.secret not in others
    assert len(others) == 3


def test_long_chain_of_successors_has_no_repetition() -> None:
    token, seen = TOKEN, set()
    for _ in range(1000):
        seen.add(token.hash)
        token = token.successor(new_nonce())
    assert len(seen) == 1000


@pytest.mark.parametrize(
    "text",
    [
        "",
        "art_",
        TOKEN.text[:-1],
        TOKEN.text + "A",
        TOKEN.text[:-1] + ("A" if TOKEN.text[-1] != "A" else "B"),
        "aat_" + TOKEN.text[4:],
        TOKEN.text.upper(),
        TOKEN.text[4:],
        " " + TOKEN.text[1:],
        TOKEN.text[:-1] + "=",
        "art_" + "é" * 70,
        "art_" + "\ud800" * 70,
        "art_" + "A" * 70,
    ],
    ids=range(13),
)
def test_malformed_tokens_are_none(text: str) -> None:
    assert parse_refresh_token(text) is None


def test_typing_error_is_none() -> None:
    for index in range(4, len(TOKEN.text)):
        other = "x" if TOKEN.text[index] != "x" else "y"
        assert parse_refresh_token(TOKEN.text[:index] + other + TOKEN.text[index + 1 :]) is None


@given(family=st.binary(min_size=16, max_size=16), secret=st.binary(min_size=32, max_size=32))
def test_arbitrary_bytes_are_formatted_and_parsed(family: bytes, secret: bytes) -> None:
    token = RefreshToken(family, secret)
    assert parse_refresh_token(token.text) == token


@given(st.text(max_size=100))
def test_arbitrary_text_is_none_or_canonical(text: str) -> None:
    found = parse_refresh_token("art_" + text)
    assert found is None or found.text == "art_" + text
