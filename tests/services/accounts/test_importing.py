"""Imports: validation of lines, all lines or none, and accounts that exist already."""

import gc
import io
import json
import tracemalloc
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import PydanticCustomError

from authapi.domain.email_address import parse_email
from authapi.domain.email_token import Purpose
from authapi.domain.events import EventType
from authapi.errors import InvalidImportLine, StorageUnavailable
from authapi.services import Services
from authapi.services.accounts import importing as module
from authapi.services.accounts.email_tokens import EmailTokens
from authapi.services.accounts.importing import MAX_LINE, AccountImporter, Summary
from authapi.settings import Settings
from authapi.storage.tables.users import NewUser
from tests.crypto.imported_hash_vectors import CHEAP, UNUSABLE
from tests.storage.rows import stored_users

BCRYPT = CHEAP["bcrypt: 2b"]
NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
Line = Mapping[str, object]


def reader(*, allow_superusers: bool = False) -> AccountImporter:
    """An importer that can parse lines; it has no database."""
    settings = Settings(
        scopes={"reports:read": "Read reports"}, roles={"editor": frozenset({"reports:read"})}
    )
    nothing: dict[str, object] = {"database": None, "audit": None}
    return AccountImporter(**nothing, settings=settings, allow_superusers=allow_superusers)  # type: ignore[arg-type]


@pytest.fixture
def noon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "now", lambda: NOW)


def file_of(*lines: Line | bytes) -> io.BytesIO:
    encoded = (line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines)
    return io.BytesIO(b"".join(line + b"\n" for line in encoded))


def wrong_fields(line: Line | bytes) -> list[str]:
    encoded = line if isinstance(line, bytes) else json.dumps(line).encode()
    with pytest.raises(InvalidImportLine) as caught:
        reader().read(encoded)
    assert all(reason for _, reason in caught.value.field_errors)
    return [field for field, _ in caught.value.field_errors]


def read(line: Line, **options: bool) -> NewUser:
    return reader(**options).read(json.dumps(line).encode())


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
    reader().read(head + b" " * (MAX_LINE - len(head) - 1) + b"}")
    assert wrong_fields(head + b" " * (MAX_LINE - len(head)) + b"}") == [""]


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30)
OBJECTS = st.dictionaries(st.text(max_size=9), SCALARS, max_size=3)
JSON = SCALARS | st.lists(SCALARS | OBJECTS, max_size=3) | OBJECTS
FIELDS = st.sampled_from([*module._Line.model_fields, "hash", "id"])


@given(st.dictionaries(FIELDS, JSON | st.sampled_from([*CHEAP.values(), "a@example.com"])))
def test_any_object_is_parsed_or_refused(line: dict[str, object]) -> None:
    try:
        found = reader().read(json.dumps(line).encode())
    except InvalidImportLine:
        return
    assert found.user.email == line["email"]


@given(st.binary(max_size=200))
def test_any_bytes_are_parsed_or_refused(line: bytes) -> None:
    with pytest.raises(InvalidImportLine) as caught:
        reader().read(line)
    assert caught.value.field_errors


@given(st.text("0123456789-+:.TZ ", max_size=32))
def test_any_time_is_parsed_or_refused(text: str) -> None:
    try:
        at = module._time(text)
    except PydanticCustomError:
        return
    assert at.utcoffset() is not None


Refused = list[tuple[int, str, str]]
Run = Callable[..., Awaitable[tuple[Summary, Refused]]]


@pytest.fixture
def run(services_on_each: Services) -> Run:
    async def run_import(
        *lines: Line | bytes, dry_run: bool = False, allow_superusers: bool = False
    ) -> tuple[Summary, Refused]:
        told: Refused = []
        services = services_on_each
        importing = AccountImporter(
            services.database, services.audit, services.settings, allow_superusers=allow_superusers
        )
        summary = await importing.run(
            file_of(*lines), lambda *fault: told.append(fault), dry_run=dry_run
        )
        return summary, told

    return run_import


async def addresses(services: Services) -> list[str]:
    return sorted(user.email for user in await stored_users(services.database))


async def imported(services: Services) -> int:
    users = await stored_users(services.database)
    async with services.database.read() as store:
        kinds = [
            event.type
            for user in users
            for event in await store.events.page(user.id, before=None, limit=10)
        ]
    assert set(kinds) <= {EventType.ACCOUNT_IMPORTED, EventType.ACCOUNT_REGISTERED}
    return kinds.count(EventType.ACCOUNT_IMPORTED)


async def test_each_imported_account_has_an_event(services_on_each: Services, run: Run) -> None:
    lines = [{"email": f"{n}@example.com", "password_hash": BCRYPT} for n in range(7)]
    assert await run(*lines) == (Summary(lines=7, added=7, skipped=0, refused=0), [])
    assert await addresses(services_on_each) == [line["email"] for line in lines]
    assert await imported(services_on_each) == 7
    # A second import changes nothing.
    before = await stored_users(services_on_each.database)
    assert await run(*lines) == (Summary(lines=7, added=0, skipped=7, refused=0), [])
    assert await stored_users(services_on_each.database) == before
    assert await imported(services_on_each) == 7


async def test_the_first_of_two_lines_with_one_address_is_imported(
    services_on_each: Services, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BATCH", 3)
    lines = [{"email": f"{n % 4}@example.com", "name": f"line {n}"} for n in range(8)]
    lines.insert(1, {"email": "0@EXAMPLE.com", "name": "in the same batch"})
    summary, _ = await run(*lines)
    assert summary == Summary(lines=9, added=4, skipped=5, refused=0)
    names = {user.name for user in await stored_users(services_on_each.database)}
    assert names == {"line 0", "line 1", "line 2", "line 3"}
    assert await imported(services_on_each) == 4


async def test_existing_accounts_are_unchanged(services_on_each: Services, run: Run) -> None:
    address = parse_email("Alice@example.com")
    alice = await services_on_each.accounts.registration.create(
        address, "a password of long standing"
    )
    line = {
        "email": "alice@EXAMPLE.com",
        "password_hash": BCRYPT,
        "is_superuser": True,
        "is_active": False,
    }
    summary, _ = await run(line, {"email": "bob@example.com"}, allow_superusers=True)
    assert (summary.added, summary.skipped) == (1, 1)
    assert await services_on_each.accounts.profiles.find(alice.id) == alice
    await services_on_each.accounts.authentication.authenticate(
        address, "a password of long standing"
    )


async def test_one_invalid_line_prevents_the_import(services_on_each: Services, run: Run) -> None:
    good = [{"email": f"{n}@example.com"} for n in range(300)]
    summary, told = await run(*good, {"email": "x", "name": ""}, b"{", *good, {"email": ""})
    assert summary == Summary(lines=603, added=0, skipped=0, refused=3)
    assert [fault[:2] for fault in told] == [
        (301, "email"),
        (301, "name"),
        (302, ""),
        (603, "email"),
    ]
    assert await addresses(services_on_each) == []


async def test_a_dry_run_counts_and_writes_nothing(services_on_each: Services, run: Run) -> None:
    await run({"email": "0@example.com"})
    lines = [{"email": f"{n}@example.com"} for n in (0, 1, 2, 1)]
    summary, _ = await run(*lines, dry_run=True)
    assert summary == Summary(lines=4, added=2, skipped=2, refused=0)
    assert await addresses(services_on_each) == ["0@example.com"]
    summary, _ = await run(*lines, b"{", dry_run=True)
    assert (summary.added, summary.refused) == (0, 1)


@pytest.mark.parametrize("dry_run", [True, False])
async def test_a_reserved_address_is_skipped(
    services_on_each: Services, run: Run, dry_run: bool
) -> None:
    services = services_on_each
    [reserved, free] = [parse_email(f"{name}@example.com") for name in ("reserved", "free")]
    owner = await services.accounts.registration.create(parse_email("moved@example.com"), None)
    email_tokens = EmailTokens(services.database, services.mail, services.settings)
    async with services.database.transaction() as store:
        await email_tokens.issue(store, owner, Purpose.REVERT_EMAIL_CHANGE, email=reserved)
    for emails, counts in (([reserved, free], (1, 1)), ([reserved], (0, 1))):
        lines = [{"email": email.original} for email in emails]
        summary, _ = await run(*lines, dry_run=dry_run)
        assert (summary.added, summary.skipped) == counts
    assert reserved.canonical not in await addresses(services)


async def test_an_interrupted_import_can_be_repeated(
    services_on_each: Services, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BATCH", 2)
    lines = [{"email": f"{n}@example.com"} for n in range(6)]
    record, count = services_on_each.audit.record_each, 0

    async def fails_at_the_second(*arguments: object) -> None:
        nonlocal count
        count += 1
        await record(*arguments)  # type: ignore[arg-type]
        if count == 2:
            raise StorageUnavailable

    with monkeypatch.context() as patch:
        patch.setattr(services_on_each.audit, "record_each", fails_at_the_second)
        with pytest.raises(StorageUnavailable):
            await run(*lines)
    # A batch and its events are committed together.
    assert await addresses(services_on_each) == ["0@example.com", "1@example.com"]
    assert await imported(services_on_each) == 2
    summary, _ = await run(*lines)
    assert (summary.added, summary.skipped) == (4, 2)
    assert await imported(services_on_each) == 6


async def test_an_empty_file_imports_nothing(run: Run) -> None:
    assert await run() == (Summary(lines=0, added=0, skipped=0, refused=0), [])


async def test_the_last_line_may_lack_a_line_feed(services: Services) -> None:
    importing = AccountImporter(services.database, services.audit, services.settings)
    file = io.BytesIO(b'{"email":"a@example.com"}\n{"email":"b@example.com"}')
    assert (await importing.run(file, _unexpected)).added == 2


async def test_an_endless_line_is_one_invalid_line(services: Services) -> None:
    importing, told = AccountImporter(services.database, services.audit, services.settings), []
    file = io.BytesIO(b"x" * 10_000_000 + b'\n{"email":"a@example.com"}\n')
    tracemalloc.start()
    try:
        summary = await importing.run(file, lambda *fault: told.append(fault))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (summary.lines, summary.refused) == (2, 1)
    assert told == [(1, "", f"is longer than {MAX_LINE} bytes")]
    assert peak < 1_000_000


@pytest.mark.slow
async def test_memory_use_does_not_grow_with_the_number_of_lines(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BATCH", 20)
    importing = AccountImporter(services.database, services.audit, services.settings)

    async def peak(tag: str, count: int) -> int:
        file = file_of(
            *({"email": f"{tag}{n}@example.com", "name": "x" * 200} for n in range(count))
        )
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        assert (await importing.run(file, _unexpected)).added == count
        return tracemalloc.get_traced_memory()[1] - before

    # Garbage is collected first, so that only live objects count. Tracing starts before the import,
    # because an object that replaces an untraced one would count as growth.
    thresholds = gc.get_threshold()
    gc.set_threshold(100)
    tracemalloc.start()
    try:
        # The first import allocates what is kept once, such as cancelled timers of asyncio.
        await peak("warm", 1800)
        few, many = await peak("few", 600), await peak("many", 1800)
    finally:
        tracemalloc.stop()
        gc.set_threshold(*thresholds)
    # One name kept per line would add 250 kB.
    assert many < few + 150_000


def _unexpected(*fault: object) -> None:
    raise AssertionError(fault)
