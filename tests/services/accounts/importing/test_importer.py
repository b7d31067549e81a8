"""Imports: all lines or none, accounts that exist already, and ids that come along."""

import csv
import gc
import io
import json
import tracemalloc
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from uuid import UUID

import pytest

from authapi.domain.email_address import parse_email
from authapi.domain.email_token import Purpose
from authapi.domain.events import EventType
from authapi.domain.username import parse_username
from authapi.errors import ConfigurationError, StorageUnavailable
from authapi.services import Services
from authapi.services.accounts.email_tokens import EmailTokens
from authapi.services.accounts.importing import AccountImporter, Summary
from authapi.services.accounts.importing import importer as module
from authapi.services.accounts.importing.id_map import IdMap
from authapi.services.accounts.importing.lines import MAX_LINE, Ids
from tests.crypto.imported_hash_vectors import CHEAP
from tests.storage.rows import stored_users

BCRYPT = CHEAP["bcrypt: 2b"]
Line = Mapping[str, object]


def file_of(*lines: Line | bytes) -> io.BytesIO:
    encoded = (line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines)
    return io.BytesIO(b"".join(line + b"\n" for line in encoded))


Refused = list[tuple[int, str, str]]
Run = Callable[..., Awaitable[tuple[Summary, Refused]]]


@pytest.fixture
def run(services_on_each: Services) -> Run:
    async def run_import(
        *lines: Line | bytes,
        dry_run: bool = False,
        allow_superusers: bool = False,
        ids: Ids = Ids.NEW,
        id_map: IdMap | None = None,
    ) -> tuple[Summary, Refused]:
        told: Refused = []
        services = services_on_each
        importing = AccountImporter(
            services.database,
            services.audit,
            services.settings,
            allow_superusers=allow_superusers,
            ids=ids,
            id_map=id_map,
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
        # The lowest of three, because a statement that SQLAlchemy compiles in between, and its
        # garbage, are as large as some hundred lines.
        few = min([await peak(f"few{n}-", 600) for n in range(3)])
        many = min([await peak(f"many{n}-", 1800) for n in range(3)])
    finally:
        tracemalloc.stop()
        gc.set_threshold(*thresholds)
    # One name kept per line would add 250 kB.
    assert many < few + 150_000


def uuids(count: int) -> list[str]:
    return [str(UUID(int=(4 << 76) + (2 << 62) + number)) for number in range(1, count + 1)]


async def stored_ids(services: Services) -> dict[str, str]:
    return {user.email: str(user.id) for user in await stored_users(services.database)}


async def test_kept_ids_are_the_ids_of_the_accounts(services_on_each: Services, run: Run) -> None:
    lines = [{"email": f"{text[-2:]}@example.com", "id": text.upper()} for text in uuids(7)]
    wanted = {str(line["email"]): str(line["id"]).lower() for line in lines}
    assert await run(*lines, ids=Ids.KEPT, dry_run=True) == (Summary(7, 7, 0, 0), [])
    assert await run(*lines[:3], ids=Ids.KEPT) == (Summary(3, 3, 0, 0), [])
    # The same import again completes the first one.
    for added, skipped in ((4, 3), (0, 7)):
        assert await run(*lines, ids=Ids.KEPT) == (Summary(7, added, skipped, 0), [])
        assert await stored_ids(services_on_each) == wanted
    assert await imported(services_on_each) == 7
    for user_id in map(UUID, wanted.values()):
        async with services_on_each.database.read() as store:
            [event] = await store.events.page(user_id, before=None, limit=10)
        assert event.type == EventType.ACCOUNT_IMPORTED


@pytest.mark.parametrize("ids", [Ids.KEPT, Ids.MAPPED])
async def test_two_lines_with_one_id_or_one_address_must_agree(
    services_on_each: Services, run: Run, ids: Ids
) -> None:
    one, two, three, _ = uuids(4)
    lines = [
        {"email": "a@example.com", "id": one},
        {"email": "b@example.com", "id": two},
        {"email": "A@EXAMPLE.com", "id": one},
        {"email": "c@example.com", "id": one},
        {"email": "B@example.com", "id": three},
        {"email": "a@example.com", "id": two},
    ]
    summary, told = await run(*lines, ids=ids)
    assert summary == Summary(lines=6, added=0, skipped=0, refused=3)
    assert told == [
        (4, "id", "is the id of line 1, which has another address"),
        (5, "email", "is the address of line 2, which has another id"),
        (6, "email", "is the address of line 1, which has another id"),
    ]
    assert await addresses(services_on_each) == []
    assert (await run(*lines[:3], ids=ids))[0] == Summary(3, 2, 1, 0)


@pytest.mark.parametrize("dry_run", [True, False])
async def test_ids_and_addresses_of_other_accounts_are_refused(
    services_on_each: Services, run: Run, monkeypatch: pytest.MonkeyPatch, dry_run: bool
) -> None:
    monkeypatch.setattr(module, "_BATCH", 2)
    alice = await services_on_each.accounts.registration.create(
        parse_email("alice@example.com"), None
    )
    before = await stored_users(services_on_each.database)
    lines = [{"email": f"{number}@example.com", "id": text} for number, text in enumerate(uuids(5))]
    lines.insert(3, {"email": "other@example.com", "id": str(alice.id)})
    lines.append({"email": "alice@EXAMPLE.com", "id": uuids(9)[-1]})
    summary, told = await run(*lines, ids=Ids.KEPT, dry_run=dry_run)
    assert summary == Summary(lines=7, added=0, skipped=0, refused=2)
    assert told == [
        (4, "id", "is the id of an account with another address"),
        (7, "id", "is not the id of the account with this address"),
    ]
    assert await stored_users(services_on_each.database) == before


async def test_an_account_that_has_the_id_already_is_skipped(
    services_on_each: Services, run: Run
) -> None:
    alice = await services_on_each.accounts.registration.create(
        parse_email("alice@example.com"), None
    )
    line = {"email": "Alice@example.com", "id": str(alice.id)}
    assert await run(line, ids=Ids.KEPT) == (Summary(1, 0, 1, 0), [])


async def test_an_id_that_is_taken_during_the_import_is_refused(
    services_on_each: Services, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BATCH", 2)
    lines = [{"email": f"{number}@example.com", "id": text} for number, text in enumerate(uuids(6))]
    validate = AccountImporter._validate

    async def validated_before_another_import(
        importer: AccountImporter, *arguments: object
    ) -> tuple[int, int]:
        result = await validate(importer, *arguments)  # type: ignore[arg-type]
        with monkeypatch.context() as patch:
            patch.setattr(AccountImporter, "_validate", validate)
            other = {"email": "other@example.com", "id": uuids(6)[2]}
            assert (await run(other, ids=Ids.KEPT))[0].added == 1
        return result

    monkeypatch.setattr(AccountImporter, "_validate", validated_before_another_import)
    summary, told = await run(*lines, ids=Ids.KEPT)
    assert summary == Summary(lines=6, added=2, skipped=0, refused=1)
    assert told == [(3, "id", "is the id of an account with another address")]
    assert await addresses(services_on_each) == [
        "0@example.com",
        "1@example.com",
        "other@example.com",
    ]


@pytest.mark.parametrize("ids", [Ids.NEW, Ids.KEPT])
async def test_a_user_name_that_is_taken_during_the_import_is_refused(
    services_on_each: Services, run: Run, monkeypatch: pytest.MonkeyPatch, ids: Ids
) -> None:
    monkeypatch.setattr(module, "_BATCH", 2)
    monkeypatch.setitem(vars(services_on_each.settings), "login_identifier", "both")
    lines: list[dict[str, object]] = [
        {"email": f"{number}@example.com", "username": f"Name{number}"} for number in range(6)
    ]
    if ids is Ids.KEPT:
        lines = [{**line, "id": text} for line, text in zip(lines, uuids(6), strict=True)]
    validate = AccountImporter._validate

    async def validated_before_another_account(
        importer: AccountImporter, *arguments: object
    ) -> tuple[int, int]:
        result = await validate(importer, *arguments)  # type: ignore[arg-type]
        await services_on_each.accounts.registration.create(
            parse_email("other@example.com"), None, username=parse_username("name3")
        )
        return result

    monkeypatch.setattr(AccountImporter, "_validate", validated_before_another_account)
    summary, told = await run(*lines, ids=ids)
    assert summary == Summary(lines=6, added=2, skipped=0, refused=1)
    assert told == [(4, "username", "belongs to another account, or did until recently")]
    assert await addresses(services_on_each) == [
        "0@example.com",
        "1@example.com",
        "other@example.com",
    ]
    monkeypatch.setattr(AccountImporter, "_validate", validate)
    # The name of the other line of that batch is free.
    assert (await run(lines[2], ids=ids))[0].added == 1


async def test_a_line_with_two_conflicts_counts_once(
    services_on_each: Services, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(vars(services_on_each.settings), "login_identifier", "both")
    create = services_on_each.accounts.registration.create
    await create(parse_email("a@example.com"), None, username=parse_username("taken"))
    other = await create(parse_email("b@example.com"), None)
    line = {"email": "new@example.com", "username": "taken", "id": str(other.id)}
    summary, told = await run(line, ids=Ids.KEPT)
    assert (summary.refused, [field for _, field, _ in told]) == (1, ["username", "id"])


async def test_a_reserved_address_is_skipped_with_its_id(
    services_on_each: Services, run: Run
) -> None:
    services, [one, two] = services_on_each, uuids(2)
    line = {"email": "before@example.com", "id": one}
    await run(line, ids=Ids.KEPT)
    owner = await services.accounts.profiles.find(UUID(one))
    at = owner.created_at
    tokens = EmailTokens(services.database, services.mail, services.settings)
    async with services.database.transaction() as store:
        await store.users.set_email(owner.id, email="after@example.com", given="x", at=at)
        await tokens.issue(
            store, owner, Purpose.REVERT_EMAIL_CHANGE, email=parse_email("before@example.com")
        )
    assert await run(line, ids=Ids.KEPT) == (Summary(1, 0, 1, 0), [])
    assert await run({**line, "id": two}, ids=Ids.KEPT) == (Summary(1, 0, 1, 0), [])
    assert len(await stored_users(services.database)) == 1


def rows_of(path: Path) -> dict[str, str]:
    rows = list(csv.reader(path.read_text().splitlines()))
    assert rows[0] == ["old_id", "new_id"]
    assert len(dict(rows[1:])) == len(rows) - 1
    return dict(rows[1:])


async def test_the_file_of_ids_has_each_added_account(
    services_on_each: Services, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "_BATCH", 3)
    services = services_on_each
    await services.accounts.registration.create(parse_email("2@example.com"), None)
    lines: list[Line] = [{"email": f"{n}@example.com", "id": n} for n in range(8)]
    lines[5] = {"email": "5@example.com", "id": 'five, "5"'}
    with IdMap(tmp_path / "map.csv") as id_map:
        summary, _ = await run(*lines, lines[0], ids=Ids.MAPPED, id_map=id_map)
    assert summary == Summary(lines=9, added=7, skipped=2, refused=0)
    found = rows_of(tmp_path / "map.csv")
    ids = await stored_ids(services)
    assert found == {str(line["id"]): ids[str(line["email"])] for line in lines if line["id"] != 2}


async def test_what_is_committed_is_in_the_file_of_ids(
    services_on_each: Services, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "_BATCH", 2)
    lines: list[Line] = [{"email": f"{n}@example.com", "id": n} for n in range(6)]
    path = tmp_path / "map.csv"
    write, batches = IdMap.write, 0

    def fails_after_the_second(id_map: IdMap, rows: object) -> None:
        nonlocal batches
        write(id_map, rows)  # type: ignore[arg-type]
        batches += 1
        if batches == 2:
            raise StorageUnavailable

    with monkeypatch.context() as patch, IdMap(path) as id_map:
        patch.setattr(IdMap, "write", fails_after_the_second)
        with pytest.raises(StorageUnavailable):
            await run(*lines, ids=Ids.MAPPED, id_map=id_map)
    first, stored = rows_of(path), await stored_ids(services_on_each)
    assert set(first) == {"0", "1", "2", "3"}
    assert stored == {f"{n}@example.com": first[str(n)] for n in (0, 1)}
    with IdMap(tmp_path / "second.csv") as id_map:
        summary, _ = await run(*lines, ids=Ids.MAPPED, id_map=id_map)
    assert (summary.added, summary.skipped) == (4, 2)
    # A later file has the valid ids of what an earlier one may have too many.
    both = first | rows_of(tmp_path / "second.csv")
    stored = await stored_ids(services_on_each)
    assert stored == {f"{n}@example.com": both[str(n)] for n in range(6)}


async def test_a_batch_is_undone_if_its_ids_cannot_be_written(
    services_on_each: Services, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def full(id_map: IdMap, rows: object) -> None:
        raise ConfigurationError("cannot write map.csv: No space left on device")

    monkeypatch.setattr(IdMap, "write", full)
    with (
        IdMap(tmp_path / "map.csv") as id_map,
        pytest.raises(ConfigurationError, match="No space left"),
    ):
        await run({"email": "a@example.com", "id": 1}, ids=Ids.MAPPED, id_map=id_map)
    assert await addresses(services_on_each) == []
    assert not (tmp_path / "map.csv").exists()


async def test_a_retried_batch_is_in_the_file_once(
    services_on_each: Services, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tries = 0
    monkeypatch.setattr("authapi.storage.database.is_conflict", lambda error: True)
    write = IdMap.write

    def conflicts_once(id_map: IdMap, rows: object) -> None:
        nonlocal tries
        tries += 1
        write(id_map, rows)  # type: ignore[arg-type]
        if tries == 1:
            raise StorageUnavailable

    monkeypatch.setattr(IdMap, "write", conflicts_once)
    with IdMap(tmp_path / "map.csv") as id_map:
        summary, _ = await run({"email": "a@example.com", "id": 1}, ids=Ids.MAPPED, id_map=id_map)
    assert (summary.added, tries) == (1, 2)
    assert rows_of(tmp_path / "map.csv") == {
        "1": (await stored_ids(services_on_each))["a@example.com"]
    }


async def test_blank_lines_do_not_count(services_on_each: Services, run: Run) -> None:
    lines: list[Line | bytes] = [b"\xef\xbb\xbf" + json.dumps({"email": "a@example.com"}).encode()]
    lines += [b"", {"email": "b@example.com"}, b"  \r", b"", {"email": "c"}]
    summary, told = await run(*lines)
    assert summary == Summary(lines=3, added=0, skipped=0, refused=1)
    assert [fault[:2] for fault in told] == [(6, "email")]
    assert (await run(*lines[:5]))[0] == Summary(lines=2, added=2, skipped=0, refused=0)


def _unexpected(*fault: object) -> None:
    raise AssertionError(fault)
