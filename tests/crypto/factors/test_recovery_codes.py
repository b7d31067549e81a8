"""Recovery codes: their format, and what people make of it."""

import re

import pytest

from authapi.crypto.factors.recovery_codes import hash_recovery_code, new_recovery_code

CODE = "7K2M-Q4XP-9RTD-01HN"


def test_codes_are_random_and_have_80_bits() -> None:
    found = {new_recovery_code() for _ in range(500)}
    assert len(found) == 500
    group = "[0-9A-HJKMNP-TV-Z]{4}"  # Crockford: no I, L, O and U
    assert all(re.fullmatch(f"{group}-{group}-{group}-{group}", code) for code in found)
    for position in range(16):  # each of the 16 symbols varies
        assert len({code.replace("-", "")[position] for code in found}) == 32


@pytest.mark.parametrize(
    "text",
    [
        CODE.lower(),
        CODE.replace("-", ""),
        CODE.replace("-", " "),
        f" {CODE} ",
        CODE.replace("0", "O").replace("1", "I"),
        CODE.replace("0", "o").replace("1", "l"),
    ],
)
def test_spellings_of_one_code_have_one_hash(text: str) -> None:
    assert hash_recovery_code(text) == hash_recovery_code(CODE) is not None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "123456",
        CODE[:-1],
        CODE + "0",
        CODE.replace("Q", "U"),
        CODE.replace("7", "７"),
        "é" * 16,
    ],
)
def test_other_texts_are_no_codes(text: str) -> None:
    assert hash_recovery_code(text) is None


def test_hashes_do_not_contain_the_code() -> None:
    found = hash_recovery_code(CODE)
    assert found is not None
    assert len(found.digest) == 32
    assert CODE[:4] not in repr(found)
