"""The list of common passwords, and the patterns of common passwords (OWASP ASVS 6.2.4)."""

import unicodedata
from itertools import pairwise

import pytest

from authapi.services import common_passwords
from authapi.services.common_passwords import digest_of, fold, is_common

LISTED = (
    "password123456789",
    "passwordpassword1",
    "correcthorsebatterystaple",
    "administrator123",
    "welcome123456789",
    "123456789abcdef",
    "1234qwerasdfzxcv",
    "qwerty1234567890",
    "1q2w3e4r5t6y7u8i",
    "zaq12wsxcde34rfv",
    "iloveyou12345678",
    "thequickbrownfox",
    "manchesterunited",
    "asdfghjklqwertyuiop",
    "princess123456789",
    "superman123456789",
    "dragon1234567890",
    "football12345678",
    "michaeljackson123",
    "11223344556677889900",
)
REPEATED = (
    "passwordpassword",
    "iloveyouiloveyou",
    "aaaaaaaaaaaaaaaa",
    "abcabcabcabcabcabc",
    "changemechangeme",
    "12341234123412341",
    "🦊" * 15,
)
RUNS = (
    "123456789012345",
    "987654321098765",
    "qwertyuiopasdfgh",
    "mnbvcxzlkjhgfdsapoi",
    "abcdefghijklmnop",
    "zyxwvutsrqponmlkj",
    "1qaz2wsx3edc4rfv",
)
UNCOMMON = (
    "qzjxkvbnwpfmtgrdhlys",
    "correct horse battery staple",
    "7f3c9a1e5b2d8f60",
    "春眠不覚暁処処聞啼鳥夜来風雨声",
    "🦊🐻🐼🐨🐯🦁🐮🐷🐸🐵🐔🐧🐦🐤🦆",
    "a long walk by the sea",
)


@pytest.mark.parametrize("password", [*LISTED, *REPEATED, *RUNS])
def test_common_passwords_are_found_in_any_case_and_width(password: str) -> None:
    wide = "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in password)
    for spelling in {password, password.upper(), password.title(), password.swapcase(), wide}:
        assert is_common(spelling), spelling


@pytest.mark.parametrize("password", UNCOMMON)
def test_uncommon_passwords_are_not_common(password: str) -> None:
    assert not is_common(password)


@pytest.mark.parametrize("password", LISTED)
def test_listed_password_is_found_by_the_list_and_not_by_a_pattern(
    password: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(common_passwords, "_data", lambda: b"")
    assert not is_common(password)


def test_list_is_sorted_and_unique_and_large() -> None:
    data = common_passwords._data()
    width = len(digest_of("any"))
    entries = [data[at : at + width] for at in range(0, len(data), width)]
    assert {len(entry) for entry in entries} == {width}
    assert len(entries) > 100_000
    assert all(one < next_one for one, next_one in pairwise(entries))


def test_entries_of_the_list_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    # Both ends and 4,000 entries in between: a binary search with an off-by-one error misses some.
    data = common_passwords._data()
    width = len(digest_of("any"))
    count = len(data) // width
    picked = {0, 1, count - 2, count - 1, *range(0, count, max(1, count // 4000))}
    assert len(picked) >= 3000
    for at in picked:
        entry = data[at * width : (at + 1) * width]
        monkeypatch.setattr(common_passwords, "digest_of", lambda _, entry=entry: entry)
        assert common_passwords._is_listed("whatever")


def test_random_passwords_are_not_found() -> None:
    # 10,000 random passwords and 350,000 of 2^40 digests: one match in 300 runs of this test.
    missed = [number for number in range(10_000) if is_common(f"{number} is not on any list")]
    assert missed == []


def test_folding_is_idempotent_and_ignores_case_and_width() -> None:
    assert fold("Ｐäß ﬁ") == unicodedata.normalize("NFKC", "pässs fi".replace("sss", "ss"))
    assert fold(fold("Ｐäß ﬁ İ")) == fold("Ｐäß ﬁ İ")


@pytest.mark.parametrize("text", ["", "a", "\ud800" * 20, "\0" * 20, "ﷺ" * 1024])
def test_unusual_texts_raise_no_error(text: str) -> None:
    assert is_common(text) in (True, False)
