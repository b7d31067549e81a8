"""Cursors of lists of accounts: encoding, and strict decoding."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authapi.crypto import base64url
from authapi.domain.email_address import canonical_prefix, parse_email
from authapi.domain.user import UserOrder
from authapi.errors import InvalidInput
from authapi.services.cursors import MAX_LENGTH, decode_cursor, encode_cursor
from tests.storage.rows import a_user

ORDERS = list(UserOrder)
USER = a_user()
TIMES = st.integers(0, 10**17 - 1).map(
    lambda count: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=count)
)
LOCALS = st.from_regex(r"[A-Za-z0-9_]{1,20}([.+%-][A-Za-z0-9_]{1,9})?", fullmatch=True)
DOMAINS = st.sampled_from(["example.com", "EXAMPLE.org", "b\u00fccher.example", "fa\u00df.example"])


@given(order=st.sampled_from(ORDERS), at=TIMES, key=st.uuids())
def test_an_encoded_cursor_is_decoded(order: UserOrder, at: datetime, key: UUID) -> None:
    user = replace(USER, id=key, created_at=at, email="Alice@EXAMPLE.com")
    text = encode_cursor(user, order)
    assert len(text) <= MAX_LENGTH
    found = decode_cursor(text, order)
    assert found.id == key
    by_age = order in (UserOrder.OLDEST, UserOrder.NEWEST)
    expected = (at, None) if by_age else (None, "alice@example.com")
    assert (found.created_at, found.email) == expected
    for other in ORDERS:
        if other != order:
            with pytest.raises(InvalidInput):
                decode_cursor(text, other)


@given(order=st.sampled_from(ORDERS), text=st.text() | st.binary().map(base64url.encode))
def test_garbage_is_not_a_cursor(order: UserOrder, text: str) -> None:
    with pytest.raises(InvalidInput):
        decode_cursor(text, order)


@given(
    order=st.sampled_from(ORDERS),
    lines=st.lists(st.text(max_size=9) | st.sampled_from([*ORDERS, USER.id.hex, "0", "a@b.co"])),
)
def test_a_near_cursor_is_refused_or_canonical(order: UserOrder, lines: list[str]) -> None:
    text = base64url.encode("\n".join(lines).encode("utf-8", "replace"))
    try:
        found = decode_cursor(text, order)
    except InvalidInput:
        return
    assert lines[0] == order
    assert found.created_at is not None or found.email is not None


@pytest.mark.parametrize(
    "value",
    ["", "-1", "+1", " 1", "1 ", "01", "1_0", "1.0", "\u0661", "9" * 18, "9" * 5000, "nan", "0x1"],
)
def test_a_time_has_one_encoding(value: str) -> None:
    text = base64url.encode(f"created_at\n{USER.id.hex}\n{value}".encode())
    with pytest.raises(InvalidInput):
        decode_cursor(text, UserOrder.OLDEST)


def test_every_decoded_time_fits_the_database() -> None:
    text = base64url.encode(f"created_at\n{USER.id.hex}\n{'9' * 17}".encode())
    found = decode_cursor(text, UserOrder.OLDEST)
    assert found.created_at is not None
    assert found.created_at < datetime(9999, 1, 1, tzinfo=UTC) - timedelta(days=1)


@given(local=LOCALS, domain=DOMAINS, data=st.data())
def test_a_prefix_of_an_address_matches_its_canonical_form(
    local: str, domain: str, data: st.DataObject
) -> None:
    address = f"{local}@{domain}"
    canonical = parse_email(address).canonical
    assert canonical_prefix(address) == canonical
    # ASCII text matches letter by letter, internationalized domains label by label.
    cuts = range(len(local) + 2) if not domain.isascii() else range(len(address) + 1)
    cut = data.draw(st.sampled_from(list(cuts)))
    assert canonical.startswith(canonical_prefix(address[:cut]))


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_is_a_valid_prefix(text: str) -> None:
    prefix = canonical_prefix(text)
    assert prefix == text or prefix.isascii() or not text.partition("@")[0].isascii()
