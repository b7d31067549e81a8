"""Refresh tokens: their form, their family, and that a successor needs the token and the nonce."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authapi.crypto.refresh import (
    RefreshToken,
    new_nonce,
    new_refresh_token,
    parse_refresh_token,
)
from authapi.crypto.secrets import is_opaque_token, is_secret

TOKEN = new_refresh_token()


def test_the_form() -> None:
    for _ in range(200):
        token = new_refresh_token()
        assert re.fullmatch(r"art_[A-Za-z0-9_-]{70}", token.text)
        assert parse_refresh_token(token.text) == token
        assert not is_opaque_token(token.text)
        assert not is_secret(token.text)


def test_nothing_of_it_is_shown() -> None:
    assert TOKEN.text[4:] not in repr(TOKEN)
    assert repr(TOKEN) == "RefreshToken()"


def test_no_two_are_alike() -> None:
    made = [new_refresh_token() for _ in range(500)]
    for part in ("family", "secret", "text", "hash", "family_hash"):
        assert len({getattr(token, part) for token in made}) == 500, part


def test_a_successor_is_of_the_same_family_and_known_to_who_holds_both_parts() -> None:
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


def test_a_long_chain_never_comes_back() -> None:
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
def test_what_is_none(text: str) -> None:
    assert parse_refresh_token(text) is None


def test_a_typing_error_is_none() -> None:
    for index in range(4, len(TOKEN.text)):
        other = "x" if TOKEN.text[index] != "x" else "y"
        assert parse_refresh_token(TOKEN.text[:index] + other + TOKEN.text[index + 1 :]) is None


@given(family=st.binary(min_size=16, max_size=16), secret=st.binary(min_size=32, max_size=32))
def test_any_bytes_can_be_written_and_read(family: bytes, secret: bytes) -> None:
    token = RefreshToken(family, secret)
    assert parse_refresh_token(token.text) == token


@given(st.text(max_size=100))
def test_any_text_is_none_or_spelt_so(text: str) -> None:
    found = parse_refresh_token("art_" + text)
    assert found is None or found.text == "art_" + text
