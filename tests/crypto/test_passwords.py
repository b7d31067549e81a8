"""Password hashing: argon2id with the given cost, constant work for failures, no weaker rehash."""

from collections.abc import Callable
from functools import partial

import argon2
import pytest
from argon2 import low_level
from hypothesis import given, settings
from hypothesis import strategies as st

from authapi.crypto.password_normalization import MAX_LENGTH
from authapi.crypto.passwords import Cost, PasswordHash, PasswordHasher
from authapi.errors import PasswordMismatch

pytestmark = pytest.mark.real_hashes

CHEAP = Cost(memory=64, passes=2, lanes=2)
PASSWORD = "correct horse battery staple"
DECOY = "decoy: not the password of any account"
"""The password of the decoy hash."""
Work = Callable[[Callable[[], object]], list[str]]


@pytest.fixture(scope="module")
def hasher() -> PasswordHasher:
    return PasswordHasher(CHEAP)


@pytest.fixture(scope="module")
def stored(hasher: PasswordHasher) -> PasswordHash:
    return hasher.hash(PASSWORD)


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Work:
    """Returns the cost of every argon2 computation of an action."""
    done: list[str] = []
    verify_secret = low_level.verify_secret

    def counted(encoded: bytes, secret: bytes, kind: low_level.Type) -> bool:
        # A hash that argon2 cannot parse is an error before any work, and is not counted.
        try:
            verify_secret(encoded, secret, kind)
        except argon2.exceptions.VerifyMismatchError:
            done.append(encoded.decode().split("$")[3])
            raise
        done.append(encoded.decode().split("$")[3])
        return True

    def measure(action: Callable[[], object]) -> list[str]:
        done.clear()
        with pytest.raises(PasswordMismatch):
            action()
        return list(done)

    monkeypatch.setattr(low_level, "verify_secret", counted)
    return measure


def test_hash_is_argon2id_with_the_given_cost(stored: PasswordHash) -> None:
    assert stored.text.startswith("$argon2id$v=19$m=64,t=2,p=2$")
    parameters = argon2.extract_parameters(stored.text)
    assert (parameters.salt_len, parameters.hash_len) == (16, 32)
    assert argon2.PasswordHasher().verify(stored.text, PASSWORD)


def test_every_hash_has_its_own_salt(hasher: PasswordHasher) -> None:
    assert len({hasher.hash(PASSWORD).text for _ in range(20)}) == 20


def test_hash_is_not_in_its_repr(stored: PasswordHash) -> None:
    assert repr(stored) == "PasswordHash()"


@pytest.mark.parametrize(
    "password",
    [
        "",
        " ",
        "pass\0word",
        "pässwörd",
        "パスワード",
        "🐎" * MAX_LENGTH,
        "x" * MAX_LENGTH,
        "e\u0301",
    ],
    ids=range(8),
)
def test_any_text_can_be_a_password(hasher: PasswordHasher, password: str) -> None:
    stored = hasher.hash(password)
    hasher.verify(password, stored)
    for other in (password + "x", password[:-1] + "y", password.swapcase() + " "):
        with pytest.raises(PasswordMismatch):
            hasher.verify(other, stored)


def test_passwords_are_case_sensitive(hasher: PasswordHasher) -> None:
    stored = hasher.hash("pass\0word é")
    for other in ("pass", "pass\0", "pass\0word e", "PASS\0WORD É", "pass\0word é "):
        with pytest.raises(PasswordMismatch):
            hasher.verify(other, stored)


def test_password_without_utf8_encoding_cannot_be_hashed(hasher: PasswordHasher) -> None:
    with pytest.raises(ValueError, match="surrogates"):
        hasher.hash("\ud800")


@pytest.mark.parametrize(
    "password",
    ["", "wrong", PASSWORD + " ", PASSWORD.upper(), "\0", PASSWORD + "\0", "\ud800", "x\udfff" * 9],
    ids=range(8),
)
def test_wrong_password_costs_one_verification(
    hasher: PasswordHasher, stored: PasswordHash, work: Work, password: str
) -> None:
    assert work(lambda: hasher.verify(password, stored)) == ["m=64,t=2,p=2"]
    assert work(lambda: hasher.verify(password, None)) == ["m=64,t=2,p=2"]


def test_overlong_password_with_a_matching_beginning_is_rejected(
    hasher: PasswordHasher, work: Work
) -> None:
    stored = PasswordHasher(Cost(memory=32, passes=1, lanes=1)).hash("x" * MAX_LENGTH)
    hasher.verify("x" * MAX_LENGTH, stored)
    for length in (MAX_LENGTH + 1, 5_000, 1_000_000):
        password = "x" * length
        assert work(partial(hasher.verify, password, stored)) == ["m=32,t=1,p=1"]


def test_decoy_is_never_a_valid_password(hasher: PasswordHasher, work: Work) -> None:
    assert work(lambda: hasher.verify(DECOY, None)) == ["m=64,t=2,p=2"]


UNPARSABLE = {
    "empty": "",
    "the password itself": PASSWORD,
    "bcrypt": "$2b$12$0123456789012345678901uVQ5zE7bTn8q7mZ5kqKZyD8e7oZ1o9e",
    "sha256-crypt": "$5$rounds=5000$abc$u5Qy3mMhqaT6Bz1o0JxD1pZ3x9mW1E8eY4z3uQ2iN.1",
    "argon2i": "$argon2i$v=19$m=64,t=2,p=2$c29tZXNhbHQ$" + "A" * 43,
    "argon2d": "$argon2d$v=19$m=64,t=2,p=2$c29tZXNhbHQ$" + "A" * 43,
    "old version": "$argon2id$v=16$m=64,t=2,p=2$c29tZXNhbHQ$" + "A" * 43,
    "no version": "$argon2id$m=64,t=2,p=2$c29tZXNhbHQ$" + "A" * 43,
    "key id": "$argon2id$v=19$m=64,t=2,p=2,keyid=AAAA$c29tZXNhbHQ$" + "A" * 43,
    "no salt": "$argon2id$v=19$m=64,t=2,p=2$$" + "A" * 43,
    "short salt": "$argon2id$v=19$m=64,t=2,p=2$QUJD$" + "A" * 43,
    "no digest": "$argon2id$v=19$m=64,t=2,p=2$c29tZXNhbHQ$",
    "short digest": "$argon2id$v=19$m=64,t=2,p=2$c29tZXNhbHQ$QQ",
    "too little memory": "$argon2id$v=19$m=1,t=2,p=2$c29tZXNhbHQ$" + "A" * 43,
    "no passes": "$argon2id$v=19$m=64,t=0,p=2$c29tZXNhbHQ$" + "A" * 43,
    "no lanes": "$argon2id$v=19$m=64,t=2,p=0$c29tZXNhbHQ$" + "A" * 43,
    "too much memory": f"$argon2id$v=19$m={(1 << 20) + 1},t=1,p=1$c29tZXNhbHQ$" + "A" * 43,
    "too many passes": "$argon2id$v=19$m=64,t=65,p=2$c29tZXNhbHQ$" + "A" * 43,
    "too many lanes": "$argon2id$v=19$m=256,t=2,p=17$c29tZXNhbHQ$" + "A" * 43,
    "digits without end": f"$argon2id$v=19$m={'9' * 50},t=2,p=2$c29tZXNhbHQ$" + "A" * 43,
    "foreign digits": "$argon2id$v=19$m=٦٤,t=2,p=2$c29tZXNhbHQ$" + "A" * 43,
    "line feed": "$argon2id$v=19$m=64,t=2,p=2$c29tZXNhbHQ$" + "A" * 43 + "\n",
    "no ASCII": "$argon2id$v=19$m=64,t=2,p=2$c29tZXNhbHQ$é",
    "surrogate": "\ud800",
    "NUL": "\0" * 60,
    "very long": "$argon2id$v=19$m=64,t=2,p=2$" + "A" * 100_000,
}


@pytest.mark.parametrize("text", UNPARSABLE.values(), ids=UNPARSABLE.keys())
def test_unparsable_hash_costs_the_same(hasher: PasswordHasher, work: Work, text: str) -> None:
    assert work(lambda: hasher.verify(PASSWORD, PasswordHash(text))) == ["m=64,t=2,p=2"]


def test_damaged_hash_is_a_mismatch(
    hasher: PasswordHasher, stored: PasswordHash, work: Work
) -> None:
    for position, right in enumerate(stored.text):
        for wrong in {"A", "9", "$", "é", ""} - {right}:
            damaged = PasswordHash(stored.text[:position] + wrong + stored.text[position + 1 :])
            assert len(work(partial(hasher.verify, PASSWORD, damaged))) == 1, damaged.text


def test_hash_with_another_cost_verifies(work: Work) -> None:
    old = PasswordHasher(Cost(memory=32, passes=1, lanes=1)).hash(PASSWORD)
    new = PasswordHasher(Cost(memory=128, passes=3, lanes=2))
    new.verify(PASSWORD, old)
    assert work(lambda: new.verify("wrong", old)) == ["m=32,t=1,p=1"]


@pytest.mark.parametrize(
    ("memory", "passes", "lanes", "outdated"),
    [
        (64, 2, 2, False),
        (63, 2, 2, True),
        (64, 1, 2, True),
        (64, 2, 1, True),
        (32, 1, 1, True),
        (65, 2, 2, False),
        (64, 3, 2, False),
        (64, 2, 3, False),
        (128, 1, 2, False),  # stronger in one parameter and weaker in another: no gain
        (32, 64, 2, False),
        (1 << 20, 64, 16, False),
        (1, 65, 1, False),  # cannot be parsed
    ],
)
def test_only_a_weaker_hash_needs_rehash(
    hasher: PasswordHasher, memory: int, passes: int, lanes: int, outdated: bool
) -> None:
    text = f"$argon2id$v=19$m={memory},t={passes},p={lanes}$c29tZXNhbHQ$" + "A" * 43
    assert hasher.needs_rehash(PasswordHash(text)) is outdated


COSTS = st.builds(Cost, *[st.integers(1, 4)] * 3)


@settings(derandomize=True, deadline=None)
@given(COSTS, COSTS, COSTS)
def test_exceeds_is_a_strict_partial_order(a: Cost, b: Cost, c: Cost) -> None:
    assert not a.exceeds(a)
    assert not (a.exceeds(b) and b.exceeds(a))
    assert not (a.exceeds(b) and b.exceeds(c)) or a.exceeds(c)


def test_new_hash_needs_no_rehash(hasher: PasswordHasher) -> None:
    assert not hasher.needs_rehash(hasher.hash(PASSWORD))
