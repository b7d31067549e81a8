"""Time-based one-time passwords: the vectors of RFC 6238, the window, and what people type."""

from urllib.parse import parse_qs, unquote, urlsplit

import pyotp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from authapi.crypto.factors.totp import (
    PERIOD,
    as_base32,
    clean_code,
    code_at,
    key_uri,
    matching_steps,
    new_totp_secret,
    step_at,
)

RFC_SECRET = b"12345678901234567890"
AT = 1_795_000_000

# Appendix B of RFC 6238, the column of SHA-1. Its codes have eight digits; six are the last six.
VECTORS = [
    (59, 0x1, "94287082"),
    (1111111109, 0x23523EC, "07081804"),
    (1111111111, 0x23523ED, "14050471"),
    (1234567890, 0x273EF07, "89005924"),
    (2000000000, 0x3F940AA, "69279037"),
    (20000000000, 0x27BC86AA, "65353130"),
]


@pytest.mark.parametrize(("at", "step", "code"), VECTORS)
def test_vectors_of_rfc_6238(at: int, step: int, code: str) -> None:
    assert step_at(at) == step
    assert code_at(RFC_SECRET, step) == code[-6:]
    assert step in matching_steps(RFC_SECRET, code[-6:], at)


@given(st.binary(min_size=20, max_size=20), st.integers(0, 2**33))
def test_pyotp_shows_the_same_codes(secret: bytes, at: int) -> None:
    assert pyotp.TOTP(as_base32(secret)).at(at) == code_at(secret, step_at(at))


@pytest.mark.parametrize(
    ("offset", "is_accepted"), [(-2, False), (-1, True), (0, True), (1, True), (2, False)]
)
@pytest.mark.parametrize("second", [0, PERIOD - 0.001])
def test_one_step_before_and_after_is_accepted(
    offset: int, is_accepted: bool, second: float
) -> None:
    at = AT - AT % PERIOD + second
    step = step_at(at) + offset
    assert (step in matching_steps(RFC_SECRET, code_at(RFC_SECRET, step), at)) is is_accepted


def test_all_steps_that_a_code_belongs_to_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("authapi.crypto.factors.totp.code_at", lambda *_: "123456")
    current = step_at(AT)
    assert matching_steps(RFC_SECRET, "123456", AT) == [current - 1, current, current + 1]


def test_there_is_no_step_before_the_epoch() -> None:
    assert matching_steps(RFC_SECRET, code_at(RFC_SECRET, 0), 0)[0] == 0


@pytest.mark.parametrize("text", ["123456", "123 456", " 123456 ", "1 2 3 4 5 6"])
def test_spaces_do_not_matter(text: str) -> None:
    assert clean_code(text) == "123456"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "12345",
        "1234567",
        "12345a",
        "１２３４５６",
        "١٢٣٤٥٦",
        "123456\n",
        "123\u00a0456",
        "-12345",
        "1_2345",
    ],
)
def test_other_texts_are_no_codes(text: str) -> None:
    assert clean_code(text) is None


def test_secrets_are_random_and_have_160_bits() -> None:
    found = {new_totp_secret() for _ in range(100)}
    assert len(found) == 100
    assert {len(secret) for secret in found} == {20}


def test_the_uri_is_what_apps_read() -> None:
    uri = key_uri(RFC_SECRET, issuer="A & B/C", account="alice+x@example.com")
    parts = urlsplit(uri)
    assert (parts.scheme, parts.netloc) == ("otpauth", "totp")
    assert unquote(parts.path) == "/A & B/C:alice+x@example.com"
    assert {name: value for name, [value] in parse_qs(parts.query).items()} == {
        "secret": "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ",
        "issuer": "A & B/C",
        "algorithm": "SHA1",
        "digits": "6",
        "period": "30",
    }
    parsed = pyotp.parse_uri(uri)
    assert isinstance(parsed, pyotp.TOTP)
    assert (parsed.issuer, parsed.name) == ("A & B/C", "alice+x@example.com")
    assert parsed.at(AT) == code_at(RFC_SECRET, step_at(AT))
