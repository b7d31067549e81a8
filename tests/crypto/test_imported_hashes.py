"""Imported hashes: conversion, bounds, verification, and rejection of unverifiable hashes."""

import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from passlib.exc import MissingBackendError

from authapi.crypto import passwords
from authapi.crypto.imported_hashes import IMPORTED_PREFIX, to_passlib_format
from authapi.crypto.passwords import Cost, PasswordHash, PasswordHasher, imported_hash
from authapi.errors import PasswordMismatch, UnsupportedHash
from tests.crypto.imported_hash_vectors import BCRYPT_OF_72, CHEAP, DEFAULT, PASSWORD, UNUSABLE

SALT, DIGEST = "c29tZXNhbHQ", "A" * 43
BCRYPT_REST = "grT8o7lcsSvhg7.xyGJmaur.9nwq5anS3U8ehPlgZY5vCEH6oK8zS"


@pytest.fixture(scope="module")
def hasher() -> PasswordHasher:
    return PasswordHasher(Cost(memory=64, passes=1, lanes=1))


def fits(hasher: PasswordHasher, password: str, stored: PasswordHash) -> bool:
    try:
        hasher.verify(password, stored)
    except PasswordMismatch:
        return False
    return True


@pytest.mark.parametrize("text", CHEAP.values(), ids=CHEAP.keys())
def test_hashes_of_other_libraries_are_verified(hasher: PasswordHasher, text: str) -> None:
    stored = imported_hash(text)
    assert fits(hasher, PASSWORD, stored)
    for wrong in (
        "",
        PASSWORD + " ",
        PASSWORD[:-1],
        PASSWORD.upper(),
        "\0",
        PASSWORD + "\0",
        "x" * 5000,
    ):
        assert not fits(hasher, wrong, stored), wrong
    assert not fits(hasher, "\ud800", stored)
    assert hasher.needs_rehash(stored)
    assert len(stored.text) <= 255


@pytest.mark.parametrize("text", DEFAULT.values(), ids=DEFAULT.keys())
def test_default_hashes_of_other_libraries_are_verified(hasher: PasswordHasher, text: str) -> None:
    assert fits(hasher, PASSWORD, imported_hash(text))


@pytest.mark.parametrize(
    "text", [*CHEAP.values(), *DEFAULT.values()], ids=[*CHEAP, *map("{}, default".format, DEFAULT)]
)
def test_conversion_is_idempotent(text: str) -> None:
    stored = imported_hash(text)
    spelt = stored.text.removeprefix(IMPORTED_PREFIX)
    assert to_passlib_format(spelt) == spelt
    assert imported_hash(spelt) == stored


@pytest.mark.parametrize("text", CHEAP.values(), ids=CHEAP.keys())
def test_changed_digest_character_does_not_verify(hasher: PasswordHasher, text: str) -> None:
    # Not the last two characters, which may have unused bits. scrypt compares the first half only.
    for position in (3, 10, 20):
        start = text.rindex("$") if text.count("$") and "$2" not in text else len(text) - 32
        at = start + position
        wrong = "0" if text[at] != "0" else "1"
        try:
            stored = imported_hash(text[:at] + wrong + text[at + 1 :])
        except UnsupportedHash:
            continue
        assert not fits(hasher, PASSWORD, stored)


def argon2(**changes: object) -> str:
    it: dict[str, object] = {
        "type": "id",
        "m": 64,
        "t": 1,
        "p": 1,
        "salt": SALT,
        "digest": DIGEST,
    } | changes
    return "$argon2{type}$v=19$m={m},t={t},p={p}${salt}${digest}".format(**it)


REFUSED = {
    "nothing": ("", "unsupported format"),
    "a password": (PASSWORD, "unsupported format"),
    "Django, unusable": (UNUSABLE, "unsupported format"),
    "very long": ("$argon2id$" + "A" * 100_000, "unsupported format"),
    "too long to store": (argon2(digest="A" * 240), "too long"),
    "NUL": (argon2() + "\0", "unsupported format"),
    "line feed": (argon2() + "\n", "unsupported format"),
    "foreign digits": (argon2(m="٦٤"), "unsupported format"),
    "leading zero": (argon2(m="064"), "unsupported format"),
    "digits without end": (argon2(m="9" * 40), "unsupported format"),
    "ours, marked": (IMPORTED_PREFIX + argon2(), "unsupported format"),
    "crypt, MD5": ("$1$abc$BXBqpb9BZcZhXLgbee.0s/", "unsupported format"),
    "crypt, SHA-512": ("$6$rounds=5000$abc$" + "a" * 86, "unsupported format"),
    "Django, MD5": ("md5$abc$" + "0" * 32, "unsupported format"),
    "Werkzeug, plain": ("sha256$abc$" + "0" * 64, "unsupported format"),
    "Werkzeug, MD5": ("pbkdf2:md5:1000$abc$" + "0" * 32, "unsupported format"),
    "argon2, type": (argon2(type="x"), "unsupported format"),
    "argon2, memory": (argon2(m=(1 << 18) + 1), "too high a cost: memory"),
    "argon2, passes": (argon2(m=1 << 18, t=5), "too high a cost: memory times passes"),
    "argon2, passes alone": (argon2(m=8, t=(1 << 17) + 1), "too high a cost: memory times passes"),
    "argon2, lanes": (argon2(m=1024, p=17), "too high a cost: lanes"),
    "argon2, too little memory": (argon2(m=15, p=2), "less memory"),
    "argon2, short salt": (argon2(salt="c2FsdA"), "salt"),
    "argon2, short digest": (argon2(digest="A" * 20), "digest"),
    "argon2, spare bits": (argon2(digest="A" * 42 + "B"), "Base64"),
    "argon2, length of Base64": (argon2(digest="A" * 45), "Base64"),
    "bcrypt, 2x": ("$2x$04$" + BCRYPT_REST, "unsupported format"),
    "bcrypt, cost": ("$2b$15$" + BCRYPT_REST, "too high a cost: bcrypt cost"),
    "bcrypt, no cost": ("$2b$03$" + BCRYPT_REST, "below 4"),
    "bcrypt, short": ("$2b$04$" + BCRYPT_REST[:-1], "unsupported format"),
    "Django, iterations": (f"pbkdf2_sha256$4000001$abc${'A' * 43}=", "too high a cost: iterations"),
    "Django, no iterations": (f"pbkdf2_sha256$0$abc${'A' * 43}=", "unsupported format"),
    "Django, length": (f"pbkdf2_sha256$1000$abc${'A' * 42}", "wrong length"),
    "Django, no salt": (f"pbkdf2_sha256$1000$${'A' * 43}=", "unsupported format"),
    "Django's scrypt": ("scrypt$16384$abc$8$65$" + "A" * 86, "too high a cost: memory times p"),
    "Werkzeug, iterations": (
        "pbkdf2:sha256:4000001$abc$" + "0" * 64,
        "too high a cost: iterations",
    ),
    "Werkzeug, half a byte": ("pbkdf2:sha256:1000$abc$" + "0" * 63, "odd number"),
    "Werkzeug, length": ("pbkdf2:sha512:1000$abc$" + "0" * 64, "wrong length"),
    "Werkzeug, N": ("scrypt:524288:8:1$abc$" + "0" * 128, "too high a cost: memory, in bytes"),
    "Werkzeug, r": ("scrypt:2:2000000:1$abc$" + "0" * 128, "too high a cost: memory, in bytes"),
    "Werkzeug, p": ("scrypt:32768:8:33$abc$" + "0" * 128, "too high a cost: memory times p"),
    "Werkzeug, N of three": ("scrypt:3:8:1$abc$" + "0" * 128, "power of two"),
    "Werkzeug, N of one": ("scrypt:1:8:1$abc$" + "0" * 128, "power of two"),
    "Werkzeug, scrypt's length": ("scrypt:2:8:1$abc$" + "0" * 64, "wrong length"),
    "scrypt, logarithm": (f"$scrypt$ln=99,r=8,p=1${SALT}${DIGEST}", "too high a cost"),
    "scrypt, small r": (f"$scrypt$ln=16,r=1,p=1${SALT}${DIGEST}", "too large for its r"),
    "scrypt, length": (f"$scrypt$ln=4,r=1,p=1${SALT}${DIGEST}AAAA", "wrong length"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_unverifiable_hash_is_rejected(hasher: PasswordHasher, text: str, reason: str) -> None:
    with pytest.raises(UnsupportedHash, match=reason) as caught:
        imported_hash(text)
    assert not text or text not in str(caught.value)
    # If such a hash is in the database nevertheless, it verifies no password.
    stored = PasswordHash(IMPORTED_PREFIX + text)
    assert not fits(hasher, PASSWORD, stored)
    assert not hasher.needs_rehash(stored)


@pytest.mark.parametrize("text", CHEAP.values(), ids=CHEAP.keys())
def test_imported_hash_without_prefix_does_not_verify(hasher: PasswordHasher, text: str) -> None:
    # Without the prefix, a hash is not verified, unless it is argon2id of version 1.3, our format.
    if not text.startswith("$argon2id$"):
        assert not fits(hasher, PASSWORD, PasswordHash(text))


def test_argon2_hash_without_version_is_verified(hasher: PasswordHasher) -> None:
    text = CHEAP["argon2-cffi: argon2i, version 16"].replace("v=16$", "")
    assert fits(hasher, PASSWORD, imported_hash(text))
    # It is not taken for the next version, which has another result.
    assert not fits(hasher, PASSWORD, imported_hash(text.replace("$m=", "$v=19$m=")))


def test_bcrypt_hash_with_unused_bits_is_accepted(hasher: PasswordHasher) -> None:
    letters = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
    text = CHEAP["bcrypt: 2b"]
    salt_end, end = text[28], text[-1]
    assert letters.index(salt_end) % 16 == letters.index(end) % 4 == 0
    sloppy = (
        text[:28]
        + letters[letters.index(salt_end) + 5]
        + text[29:-1]
        + letters[letters.index(end) + 3]
    )
    stored = imported_hash(sloppy)
    assert stored == imported_hash(text)
    assert fits(hasher, PASSWORD, stored)


def test_password_longer_than_72_bytes_does_not_verify_with_bcrypt(hasher: PasswordHasher) -> None:
    stored = imported_hash(BCRYPT_OF_72)
    assert fits(hasher, "x" * 72, stored)
    for other in ("x" * 73, "x" * 71, "x" * 71 + "é", "x" * 255, "x" * 1024, "x" * 1025):
        assert not fits(hasher, other, stored)


def test_bcrypt_sha256_does_not_truncate(hasher: PasswordHasher) -> None:
    stored = imported_hash(CHEAP["Django: bcrypt_sha256"])
    assert fits(hasher, PASSWORD, stored)
    context = passwords._imported_context()
    long = context.handler("django_bcrypt_sha256").using(rounds=4).hash("x" * 100)
    stored = imported_hash(long)
    assert fits(hasher, "x" * 100, stored)
    assert not fits(hasher, "x" * 99, stored)


@pytest.fixture
def without_bcrypt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "_has_bcrypt", lambda: False)


@pytest.mark.usefixtures("without_bcrypt")
@pytest.mark.parametrize("name", ["bcrypt: 2b", "Django: bcrypt", "Django: bcrypt_sha256"])
def test_import_without_the_extra_names_it(
    hasher: PasswordHasher, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(UnsupportedHash, match=r"pip install 'fastapi-authapi\[bcrypt\]'"):
        imported_hash(CHEAP[name])
    imported_hash(CHEAP["Werkzeug: scrypt"])
    # A hash that another process imported counts as a wrong password; the log has the reason.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passwords, "_has_bcrypt", lambda: True)
        stored = imported_hash(CHEAP[name])
    assert not fits(hasher, PASSWORD, stored)
    assert "fastapi-authapi[bcrypt]" in caplog.text


WITHOUT = """
import sys
sys.modules["bcrypt"] = None
from authapi.crypto.passwords import imported_hash
from authapi.errors import UnsupportedHash
try:
    imported_hash(sys.argv[1])
except UnsupportedHash as refusal:
    print(refusal)
"""


def test_no_other_bcrypt_library_is_used() -> None:
    # passlib would use that of the C library, if it has one.
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", WITHOUT, CHEAP["bcrypt: 2b"]],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "needs the extra" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize("error", [MissingBackendError, ValueError])
def test_incompatible_bcrypt_library_counts_as_missing(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    class Handler:
        def set_backend(self, name: str) -> None:
            raise error

    monkeypatch.setattr(passwords, "get_crypt_handler", lambda _: Handler())
    assert not passwords._has_bcrypt.__wrapped__()


@pytest.fixture
def decoys(hasher: PasswordHasher, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Returns the own hashes that are verified."""
    done: list[str] = []
    verify: Callable[..., bool] = hasher._context.verify

    def counted(password: str, stored: str) -> bool:
        fits = verify(password, stored)  # raises before any hashing if there is no UTF-8 encoding
        done.append(stored)
        return fits

    monkeypatch.setattr(hasher._context, "verify", counted)
    return done


@pytest.mark.parametrize("text", CHEAP.values(), ids=CHEAP.keys())
def test_wrong_password_for_an_imported_hash_costs_an_additional_verification(
    hasher: PasswordHasher, decoys: list[str], text: str
) -> None:
    stored = imported_hash(text)
    assert fits(hasher, PASSWORD, stored)
    assert decoys == []  # the hash that replaces it costs as much
    for number, wrong in enumerate(("wrong", "", "x" * 2000, "\ud800", "\0"), 1):
        assert not fits(hasher, wrong, stored)
        assert len(decoys) == number


HEADS = [
    "$argon2id$v=19$",
    "$argon2i$",
    "argon2$argon2d$",
    "$2b$",
    "bcrypt$$2y$",
    "bcrypt_sha256$$2b$",
    "pbkdf2_sha256$",
    "pbkdf2:sha256:",
    "$pbkdf2-sha512$",
    "$pbkdf2$",
    "scrypt$",
    "scrypt:",
    "$scrypt$ln=",
    IMPORTED_PREFIX,
]
PARTS = st.one_of(
    st.text(max_size=40),
    st.from_regex(r"m=[0-9]{1,12},t=[0-9]{1,12},p=[0-9]{1,12}", fullmatch=True),
    st.from_regex(r"[0-9]{1,12}(:[0-9]{1,12}){0,2}", fullmatch=True),
    st.from_regex(r"[A-Za-z0-9+/.=]{1,90}", fullmatch=True),
    st.from_regex(r"[0-9a-f]{1,130}", fullmatch=True),
    st.sampled_from([SALT, DIGEST, "0" * 128, "0" * 64, BCRYPT_REST, "04", "12"]),
)


def check_understood(spelt: str) -> None:
    """Asserts that an accepted hash is stored unchanged and parsed by passlib."""
    assert to_passlib_format(spelt) == spelt
    assert len(IMPORTED_PREFIX + spelt) <= 255
    context = passwords._imported_context()
    handler: Any = context.handler(context.identify(spelt))
    handler.from_string(spelt)


@example("scrypt:", "2:2000:1$abc$" + "0" * 128)
@example("scrypt$", "2$abc$1$1$" + "A" * 86)
@example("$scrypt$ln=", "15,r=1,p=1$c2FsdA$" + DIGEST)
@example("pbkdf2_sha256$", "1$!$" + DIGEST)
@example("pbkdf2:sha256:", "1$" + "~" * 128 + "$" + "f" * 64)
@example("$pbkdf2$", "4000000$AA$" + "A" * 27)
@example("$argon2i$", f"m=128,t=1,p=16${SALT}${DIGEST}")
@given(st.sampled_from(HEADS), st.lists(PARTS, max_size=5).map("$".join))
def test_arbitrary_text_is_converted_or_rejected(head: str, rest: str) -> None:
    began = time.process_time()
    try:
        spelt = to_passlib_format(head + rest)
    except UnsupportedHash:
        pass
    else:
        check_understood(spelt)
    assert time.process_time() - began < 0.5


@given(st.sampled_from(sorted({**CHEAP, **DEFAULT})), st.data())
def test_damaged_hash_is_converted_or_rejected(name: str, data: st.DataObject) -> None:
    text = {**DEFAULT, **CHEAP}[name]
    at = data.draw(st.integers(0, len(text) - 1))
    put = data.draw(st.text(max_size=3))
    cut = data.draw(st.integers(0, 3))
    try:
        spelt = to_passlib_format(text[:at] + put + text[at + cut :])
    except UnsupportedHash:
        return
    check_understood(spelt)
