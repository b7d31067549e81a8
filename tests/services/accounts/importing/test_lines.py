"""Lines of an import: their members, their errors, and the lines of a file."""

import io
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import PydanticCustomError

from authapi.errors import InvalidImportLine
from authapi.services.accounts.importing import lines as module
from authapi.services.accounts.importing.lines import (
    MAX_LINE,
    Ids,
    LineParser,
    numbered_lines,
)
from authapi.storage.tables.users import NewUser
from tests.crypto.imported_hash_vectors import CHEAP, UNUSABLE

BCRYPT = CHEAP["bcrypt: 2b"]
NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
Line = Mapping[str, object]


ROLES = {"editor": frozenset({"reports:read"})}


def reader(*, allow_superusers: bool = False, ids: Ids = Ids.NEW) -> LineParser:
    return LineParser(ROLES, allow_superusers=allow_superusers, ids=ids)


@pytest.fixture
def noon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "now", lambda: NOW)


def wrong_fields(line: Line | bytes, ids: Ids = Ids.NEW) -> list[str]:
    encoded = line if isinstance(line, bytes) else json.dumps(line).encode()
    with pytest.raises(InvalidImportLine) as caught:
        reader(ids=ids).parse(encoded)
    assert all(reason for _, reason in caught.value.field_errors)
    return [field for field, _ in caught.value.field_errors]


def read(line: Line, *, allow_superusers: bool = False) -> NewUser:
    return reader(allow_superusers=allow_superusers).parse(json.dumps(line).encode()).new


@pytest.mark.usefixtures("noon")
def test_a_line_sets_every_field_of_an_account() -> None:
    found = read(
        {
            "email": "Alice@Example.com",
            "password_hash": BCRYPT,
            "name": "Alice Ünique",
            "email_confirmed": "2020-02-03T04:05:06.5+09:00",
            "is_active": False,
            "is_superuser": True,
            "locale": "pt-BR",
            "roles": ["editor"],
            "created_at": "2019-12-31T23:59:59Z",
        },
        allow_superusers=True,
    )
    user = found.user
    assert (user.email, found.email) == ("Alice@Example.com", "alice@example.com")
    assert (user.name, user.locale) == ("Alice Ünique", "pt-BR")
    assert user.roles == {"editor"}
    assert (user.is_active, user.is_superuser) == (False, True)
    assert user.email_confirmed_at == datetime(2020, 2, 2, 19, 5, 6, 500_000, tzinfo=UTC)
    assert user.created_at == datetime(2019, 12, 31, 23, 59, 59, tzinfo=UTC)
    assert user.updated_at == NOW
    assert found.password_hash
    assert found.password_hash.text == f"foreign:{BCRYPT}"


@pytest.mark.usefixtures("noon")
def test_omitted_members_have_defaults() -> None:
    found = read({"email": "a@example.com"})
    assert (found.user.is_active, found.user.is_superuser) == (True, False)
    assert (found.user.email_confirmed_at, found.user.created_at) == (None, NOW)
    assert (found.user.name, found.user.locale, found.user.roles) == (None, None, frozenset())
    assert found.password_hash is None
    nulls = dict.fromkeys(("password_hash", "name", "locale", "created_at"))
    again = read({"email": "a@example.com", "email_confirmed": True, **nulls})
    assert again.user.email_confirmed_at == NOW
    assert (again.user.name, again.password_hash) == (None, None)


WRONG: dict[str, tuple[Line, str]] = {
    "no address": ({}, "email"),
    "address of nothing": ({"email": None}, "email"),
    "address with a line": ({"email": "a@example.com\r\nBcc: b@example.com"}, "email"),
    "address too long": ({"email": "a" * 300 + "@example.com"}, "email"),
    "unknown field": ({"hash": BCRYPT}, "hash"),
    "unusable": ({"password_hash": UNUSABLE}, "password_hash"),
    "a password": ({"password_hash": "correct horse battery staple"}, "password_hash"),
    "hash of a number": ({"password_hash": 1}, "password_hash"),
    "costly": ({"password_hash": "pbkdf2:sha256:9999999$a$" + "0" * 64}, "password_hash"),
    "empty name": ({"name": ""}, "name"),
    "long name": ({"name": "x" * 201}, "name"),
    "two lines of name": ({"name": "a\nb"}, "name"),
    "name of a number": ({"name": 1}, "name"),
    "number for a truth": ({"is_active": 1}, "is_active"),
    "text for a truth": ({"is_active": "true"}, "is_active"),
    "null for a truth": ({"is_superuser": None}, "is_superuser"),
    "superuser": ({"is_superuser": True}, "is_superuser"),
    "confirmed by a number": ({"email_confirmed": 1}, "email_confirmed"),
    "confirmed tomorrow": ({"email_confirmed": "2999-01-01T00:00:00Z"}, "email_confirmed"),
    "without zone": ({"created_at": "2020-01-01T00:00:00"}, "created_at"),
    "a day": ({"created_at": "2020-01-01"}, "created_at"),
    "no such day": ({"created_at": "2020-02-30T00:00:00Z"}, "created_at"),
    "long ago": ({"created_at": "0001-01-01T00:00:00+14:00"}, "created_at"),
    "far ahead": ({"created_at": "9999-12-31T23:59:59-14:00"}, "created_at"),
    "no such zone": ({"created_at": "2020-01-01T00:00:00+99:00"}, "created_at"),
    "locale": ({"locale": "../../etc"}, "locale"),
    "long locale": ({"locale": "en" + "-abcdefgh" * 9}, "locale"),
    "unknown role": ({"roles": ["editor", "admin"]}, "roles"),
    "role by itself": ({"roles": "editor"}, "roles"),
    "roles of numbers": ({"roles": ["editor", 1]}, "roles.1"),
    "many roles": ({"roles": ["editor"] * 21}, "roles"),
}


@pytest.mark.parametrize(("changes", "where"), WRONG.values(), ids=WRONG.keys())
def test_an_invalid_member_is_reported_by_field(changes: Line, where: str) -> None:
    line = changes if where == "email" else {"email": "a@example.com", **changes}
    assert wrong_fields(line) == [where]


def test_all_errors_of_a_line_are_reported() -> None:
    line = {"email": "a", "name": "", "x": 1, "created_at": 5}
    assert wrong_fields(line) == ["email", "name", "created_at", "x"]


def test_no_error_message_contains_an_address_or_a_hash() -> None:
    line = {
        "email": "secret@@secret",
        "password_hash": "secret",
        "locale": "secret!",
        "name": "secret\n",
    }
    with pytest.raises(InvalidImportLine) as caught:
        read(line)
    assert len(caught.value.field_errors) == 4
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"a@example.com"',
        b'{"email":"a@example.com"}{}',
        b'{"email":"a@example.com","email":"b@example.com"}',
        b'{"email":"a@example.com","name":"\\ud800"}',
        b'{"email":"a@example.com","name":"\\u0000"}',
        b'{"email":"a@example.com","name":NaN}',
        b'{"email":"\xff@example.com"}',
        b'\xef\xbb\xbf{"email":"a@example.com"}',
        b'{"email":"a@example.com","name":' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"email":"a@example.com","name":' + b"9" * 5000 + b"}",
    ],
    ids=range(14),
)
def test_a_line_that_is_not_one_object_is_refused(line: bytes) -> None:
    assert wrong_fields(line) == [""]


def test_the_length_of_a_line_is_bounded() -> None:
    head = b'{"email":"a@example.com"'
    reader().parse(head + b" " * (MAX_LINE - len(head) - 1) + b"}")
    assert wrong_fields(head + b" " * (MAX_LINE - len(head)) + b"}") == [""]


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30)
OBJECTS = st.dictionaries(st.text(max_size=9), SCALARS, max_size=3)
JSON = SCALARS | st.lists(SCALARS | OBJECTS, max_size=3) | OBJECTS
FIELDS = st.sampled_from([*module.Line.model_fields, "hash"])


@given(st.dictionaries(FIELDS, JSON | st.sampled_from([*CHEAP.values(), "a@example.com"])))
def test_any_object_is_parsed_or_refused(line: dict[str, object]) -> None:
    try:
        found = reader().parse(json.dumps(line).encode()).new
    except InvalidImportLine:
        return
    assert found.user.email == line["email"]


@given(st.binary(max_size=200))
def test_any_bytes_are_parsed_or_refused(line: bytes) -> None:
    with pytest.raises(InvalidImportLine) as caught:
        reader().parse(line)
    assert caught.value.field_errors


@given(st.text("0123456789-+:.TZ ", max_size=32))
def test_any_time_is_parsed_or_refused(text: str) -> None:
    try:
        at = module._time(text)
    except PydanticCustomError:
        return
    assert at.utcoffset() is not None


KEPT = "2f4b7c1a-0d3e-4a57-9c1b-6f2e8d5a4b3c"


def with_id(value: object) -> bytes:
    return json.dumps({"email": "a@example.com", "id": value}).encode()


@pytest.mark.parametrize("text", [KEPT, KEPT.upper(), KEPT.replace("-", "")])
def test_every_spelling_of_a_kept_id_is_one_id(text: str) -> None:
    line = reader(ids=Ids.KEPT).parse(with_id(text))
    assert (line.new.user.id, line.old_id) == (UUID(KEPT), KEPT)


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        7,
        "7",
        1.0,
        True,
        [],
        {},
        KEPT + "\n",
        "{" + KEPT + "}",
        "urn:uuid:" + KEPT,
        KEPT[:-1],
        KEPT[:-1] + "g",
        KEPT[:-1] + "\uff11",
        "00000000-0000-0000-0000-000000000000",
        "ffffffff-ffff-ffff-ffff-ffffffffffff",
        "F" * 32,
    ],
    ids=range(17),
)
def test_a_kept_id_must_be_a_uuid_of_an_account(value: object) -> None:
    assert wrong_fields(with_id(value), Ids.KEPT) == ["id"]


def test_a_line_without_an_id_is_refused_where_ids_matter() -> None:
    for ids in (Ids.KEPT, Ids.MAPPED):
        assert wrong_fields({"email": "a@example.com"}, ids) == ["id"]
    assert wrong_fields(with_id(KEPT)) == wrong_fields(with_id(1)) == ["id"]
    assert reader().parse(with_id(None)).old_id is None


@pytest.mark.parametrize(
    ("value", "text"), [(7, "7"), (-1, "-1"), (1 << 70, str(1 << 70)), ("\u00fc 1", "\u00fc 1")]
)
def test_a_mapped_id_is_any_number_or_line_of_text(value: object, text: str) -> None:
    line = reader(ids=Ids.MAPPED).parse(with_id(value))
    assert line.old_id == text
    assert line.new.user.id.version == 7


@pytest.mark.parametrize("value", ["", "a\nb", "x" * 256, "\u0000", 1.5, False, [1]])
def test_other_mapped_ids_are_refused(value: object) -> None:
    assert wrong_fields(with_id(value), Ids.MAPPED) == ["id"] or value == "\u0000"
    with pytest.raises(InvalidImportLine):
        reader(ids=Ids.MAPPED).parse(with_id(value))


BOM = b"\xef\xbb\xbf"


def test_blank_lines_and_a_byte_order_mark_are_no_lines() -> None:
    text = BOM + b'{"a":1}\r\n\n  \t\r\n{"b":2}\n' + BOM + b"\n\n\n"
    found = [(number, line.strip()) for number, line in numbered_lines(io.BytesIO(text))]
    assert found == [(1, b'{"a":1}'), (4, b'{"b":2}'), (5, BOM)]
    assert list(numbered_lines(io.BytesIO(BOM))) == []
    assert list(numbered_lines(io.BytesIO(BOM + b"\n"))) == []
    assert list(numbered_lines(io.BytesIO(b"\xef\xbb"))) == [(1, b"\xef\xbb")]


def test_a_long_blank_line_is_a_line() -> None:
    [(number, line)] = numbered_lines(io.BytesIO(b" " * 1_000_000 + b"\n\n"))
    assert number == 1
    assert len(line) == MAX_LINE + 2
