"""User names: the canonical form (PRECIS UsernameCaseMapped), and which names exist."""

import unicodedata
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authapi.domain import username as module
from authapi.domain.email_address import EmailAddress
from authapi.domain.username import (
    MAX_LENGTH,
    MIN_LENGTH,
    Username,
    canonical_username_prefix,
    parse_login_name,
    parse_username,
)
from authapi.errors import InvalidInput

LETTERS = st.characters(categories=["Ll", "Lu", "Lt", "Lo", "Lm", "Mn", "Mc", "Nd"])
ONE_SCRIPT = st.sampled_from(
    ["aAbBzZ09._-éÉßſK", "αΑσΣςάΆ", "аАбБяЯ", "ﾊﾝｶｸハンカク", "ｆＦｕＵ", "i\u0307Iİ\u030cJj"]
).flatmap(lambda letters: st.text(st.sampled_from(letters), min_size=3, max_size=40))
NAMES = st.one_of(st.text(LETTERS, min_size=3, max_size=40), ONE_SCRIPT, st.text(max_size=50))


def parsed(text: str) -> Username | None:
    try:
        return parse_username(text)
    except InvalidInput as refusal:
        [error] = refusal.errors
        return None if error.code == "username_invalid" else pytest.fail(error.code)


@given(NAMES)
def test_both_forms_are_stable(text: str) -> None:
    name = parsed(text)
    if name is None:
        return
    assert parse_username(name.original) == name
    assert parse_username(name.canonical) == Username(name.canonical, name.canonical)
    for form in (name.original, name.canonical):
        assert unicodedata.is_normalized("NFC", form)
        assert MIN_LENGTH <= len(form) <= MAX_LENGTH
        assert not {"@", " ", ":", "/", "\0"} & set(form)
    assert name.canonical == name.canonical.lower()
    assert canonical_username_prefix(name.original) == name.canonical


@given(ONE_SCRIPT)
def test_spellings_of_one_name_have_one_canonical_form(text: str) -> None:
    name = parsed(text)
    if name is None:
        return
    for spelling in (unicodedata.normalize("NFD", text), unicodedata.normalize("NFC", text)):
        other = parsed(spelling)
        assert other is None or other == name
    other = parsed(name.original.lower())
    assert other is None or other.canonical == name.canonical


@pytest.mark.parametrize(
    ("text", "original", "canonical"),
    [
        ("Alice", "Alice", "alice"),
        ("ＡＬＩＣＥ", "ALICE", "alice"),
        ("\u212aim", "Kim", "kim"),  # the Kelvin sign
        ("E\u0301cole", "École", "école"),
        ("Straße", "Straße", "straße"),
        ("ΜΑΡΙΑ", "ΜΑΡΙΑ", "μαρια"),
        ("ﾗｰﾒﾝ", "ラーメン", "ラーメン"),
        ("한글이", "한글이", "한글이"),
        ("たろう太郎abc", "たろう太郎abc", "たろう太郎abc"),
        ("नमस्ते", "नमस्ते", "नमस्ते"),
        ("שלום12", "שלום12", "שלום12"),
        ("a._-9", "a._-9", "a._-9"),
        ("x" * 40, "x" * 40, "x" * 40),
    ],
)
def test_names_are_mapped(text: str, original: str, canonical: str) -> None:
    name = parse_username(text)
    assert name.canonical == canonical
    assert unicodedata.normalize("NFKC", name.original) == unicodedata.normalize("NFKC", original)


@pytest.mark.parametrize(
    "text",
    [
        *("", "al", "x" * 41, "a@b", "a b c", " abc", "abc ", "a:bc", "a/bc", "abc\n", "abc\0"),
        *("abc!", "a+bc", "a'bc", "abc\u00b7", "abc\u200d", "abc\u200b", "abc\ufeff", "ab\ud800"),
        *("\u0301abc", "½½½", "①②③", "ﬁabc", "abc😀", "e\u0301" * 2),
        "p\u0430ypal",  # a Cyrillic letter in a Latin word
        "αbc",
        "ab\u09e6c",  # a Bengali digit that looks like an o
        "abc\u0663",  # an Arabic digit
        "שלוםabc",
    ],
)
def test_other_texts_are_refused(text: str) -> None:
    assert parsed(text) is None


def test_names_that_look_alike_in_several_scripts_are_several_names() -> None:
    # A whole word in another script is a name of that script.
    latin, cyrillic = parse_username("cop"), parse_username("\u0441\u043e\u0440")
    assert latin.canonical != cyrillic.canonical


def test_a_login_name_is_an_address_or_a_user_name() -> None:
    address, name = "Alice@example.com", "Alice"
    assert isinstance(parse_login_name(address, "email"), EmailAddress)
    assert isinstance(parse_login_name(address, "both"), EmailAddress)
    assert isinstance(parse_login_name(name, "both"), Username)
    assert isinstance(parse_login_name(name, "username"), Username)
    for text, accepted in ((name, "email"), (address, "username"), ("a@b@c", "both")):
        with pytest.raises(InvalidInput):
            parse_login_name(text, accepted)  # type: ignore[arg-type]  # literals in a tuple


def test_a_prefix_that_no_name_has_is_unchanged() -> None:
    assert canonical_username_prefix("AL") == "al"
    assert canonical_username_prefix("a b") == "a b"


@given(st.lists(ONE_SCRIPT, min_size=2, max_size=6))
def test_canonical_forms_are_equal_exactly_if_the_folded_names_are(texts: list[str]) -> None:
    names = [name for name in map(parsed, texts) if name is not None]
    for one, two in pairwise(names):
        is_same = unicodedata.normalize("NFC", one.original.lower()) == unicodedata.normalize(
            "NFC", two.original.lower()
        )
        assert (one.canonical == two.canonical) == is_same


@given(st.text(st.sampled_from("aZ09._-\n"), max_size=42))
def test_plain_names_have_the_forms_of_the_profiles(text: str) -> None:
    try:
        expected: Username | None = module._parse_any(text)
    except ValueError:
        expected = None
    assert parsed(text) == expected
