"""Normalization of passwords (RFC 8265, section 4.2)."""

import unicodedata
from functools import partial
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from passlib.context import CryptContext

from authapi.crypto.password_normalization import (
    MAX_INPUT_LENGTH,
    MAX_LENGTH,
    has_control_characters,
    is_too_long,
    opaque_string,
)
from authapi.crypto.passwords import Cost, PasswordHash, PasswordHasher, imported_hash
from authapi.errors import PasswordMismatch

HASHER = CryptContext(["pbkdf2_sha256"], pbkdf2_sha256__rounds=1000)
"""A hash of another system."""
CHEAP = Cost(memory=32, passes=1, lanes=1)
CREME = "crème brûlée à la carte 47"


def fits(hasher: PasswordHasher, password: str, stored: PasswordHash) -> bool:
    try:
        hasher.verify(password, stored)
    except PasswordMismatch:
        return False
    return True


@pytest.mark.parametrize(
    ("typed", "normal"),
    [
        # The valid examples of RFC 8265, section 4.3.
        ("correct horse battery staple", "correct horse battery staple"),
        ("Correct Horse Battery Staple", "Correct Horse Battery Staple"),
        ("πß\u00e5", "πß\u00e5"),
        ("Jack of \u2666s", "Jack of \u2666s"),
        ("foo\u1680bar", "foo bar"),
        # Every other space character, and characters that only look like one.
        ("a\u00a0b\u2003c\u202fd\u3000e", "a b c d e"),
        ("a\u200bb", "a\u200bb"),
        (unicodedata.normalize("NFD", CREME), CREME),
        (unicodedata.normalize("NFD", "한국어 비밀번호"), "한국어 비밀번호"),
        ("\u212b\u2126", "\u00c5\u03a9"),
        # No compatibility mapping, no width mapping, no case mapping.
        ("ﬁ Ａ Σς", "ﬁ Ａ Σς"),
        ("👩\u200d🚀❤\ufe0f", "👩\u200d🚀❤\ufe0f"),
        ("", ""),
    ],
)
def test_normalized_form(typed: str, normal: str) -> None:
    assert opaque_string(typed) == normal


@given(st.text())
def test_normalization_is_idempotent(text: str) -> None:
    normal = opaque_string(text)
    assert opaque_string(normal) == normal
    assert opaque_string(unicodedata.normalize("NFD", text)) == normal
    assert len(unicodedata.normalize("NFD", normal)) <= 4 * len(normal)


@pytest.mark.parametrize("character", ["\0", "\t", "\n", "\x7f", "\x85", "\u2028", "\ud800"])
def test_control_characters_are_detected(character: str) -> None:
    assert has_control_characters(f"a{character}b")
    assert not has_control_characters(f"a b\u00a0{CREME}👩\u200d🚀❤\ufe0f")


def test_length_is_that_of_the_normalized_form() -> None:
    for character in ("x", "é", "한", "\u1f82"):
        longest = unicodedata.normalize("NFD", character * MAX_LENGTH)
        assert len(longest) <= MAX_INPUT_LENGTH
        assert not is_too_long(longest)
        assert is_too_long(longest + "x")
    assert is_too_long("x" * (MAX_INPUT_LENGTH + 1))


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_hash_verifies_every_unicode_encoding(form: Literal["NFC", "NFD"]) -> None:
    hasher = PasswordHasher(CHEAP)
    stored = hasher.hash(unicodedata.normalize(form, CREME))
    assert fits(hasher, CREME, stored)
    assert fits(hasher, unicodedata.normalize("NFD", CREME), stored)
    assert fits(hasher, CREME.replace(" ", "\u00a0"), stored)
    for wrong in (
        CREME.upper(),
        CREME.replace("è", "e"),
        CREME + " ",
        unicodedata.normalize("NFKD", "ﬁ"),
    ):
        assert not fits(hasher, wrong, stored)


def test_imported_hash_verifies_the_original_encoding() -> None:
    hasher = PasswordHasher(CHEAP)
    decomposed = unicodedata.normalize("NFD", CREME)
    for hashed in (CREME, decomposed, CREME.replace(" ", "\u00a0"), "tab\there"):
        stored = imported_hash(HASHER.hash(hashed))
        assert fits(hasher, hashed, stored)
        assert not fits(hasher, hashed + "x", stored)
    composed = imported_hash(HASHER.hash(CREME))
    assert fits(hasher, decomposed, composed)


def test_failure_costs_the_same_for_every_account(monkeypatch: pytest.MonkeyPatch) -> None:
    hasher = PasswordHasher(CHEAP)
    stored, done = hasher.hash(CREME), list[str]()
    verify = hasher._context.verify

    def counted(password: str, candidate: str) -> bool:
        done.append(password)
        result: bool = verify(password, candidate)
        return result

    monkeypatch.setattr(hasher._context, "verify", counted)
    for password, cost in ((CREME, 1), (unicodedata.normalize("NFD", CREME), 2), ("x", 1)):
        for account in (hasher.hash("another"), None, PasswordHash("damaged")):
            done.clear()
            with pytest.raises(PasswordMismatch):
                partial(hasher.verify, password, account)()
            assert len(done) == cost
    done.clear()
    hasher.verify(unicodedata.normalize("NFD", CREME), stored)
    assert done == [CREME]
