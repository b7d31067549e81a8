"""Imports in batches: they add what an import of one line after the other adds, also in races."""

import asyncio
import io
import json
import random
from collections.abc import Sequence
from uuid import UUID

import pytest

from authapi.domain.email_address import parse_email
from authapi.domain.email_token import Purpose
from authapi.domain.username import parse_username
from authapi.errors import EmailTaken
from authapi.services import Services
from authapi.services.accounts.email_tokens import EmailTokens
from authapi.services.accounts.importing import AccountImporter, Summary
from authapi.services.accounts.importing import importer as module
from authapi.storage.tables.users import UserTable
from tests.storage.rows import sql, stored_users

Line = dict[str, object]
Outcome = tuple[Summary, list[tuple[int, str, str]], list[object], list[str]]


async def run_import(
    services: Services, lines: Sequence[Line | bytes]
) -> tuple[Summary, list[tuple[int, str, str]]]:
    texts = (line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines)
    told: list[tuple[int, str, str]] = []
    importing = AccountImporter(services.database, services.audit, services.settings)
    file = io.BytesIO(b"\n".join(texts))
    return await importing.run(file, lambda *fault: told.append(fault)), told


def some_lines(seed: int) -> list[Line | bytes]:
    """Lines with new, repeated, existing and reserved addresses; names; some seeds have errors.

    `%` stands for a text that makes the lines of each import others.
    """
    chosen = random.Random(seed)
    lines: list[Line | bytes] = []
    for number in range(chosen.randrange(20, 40)):
        address = chosen.choice(
            [f"new{number}", f"new{number}", f"New{chosen.randrange(20)}", "existing", "reserved"]
        )
        line: Line = {"email": f"{address}-%@Example.com", "name": f"line {number} 한 \\ ' \""}
        if chosen.random() < 0.3:
            line["username"] = f"Name{number}-%"
        if chosen.random() < 0.3:
            line |= {"roles": [], "locale": "ko", "email_confirmed": chosen.random() < 0.5}
        lines.append(line)
    if seed % 4 == 1:
        lines.insert(chosen.randrange(len(lines)), b"{")
        lines.insert(chosen.randrange(len(lines)), {"email": "no address"})
    if seed % 4 == 2:
        lines.insert(
            chosen.randrange(len(lines)), {"email": "x-%@example.com", "username": "has-%"}
        )
    if seed % 4 == 3:
        twice: list[Line] = [
            {"email": f"y{n}-%@example.com", "username": "Twice-%"} for n in range(2)
        ]
        for line in twice:
            lines.insert(chosen.randrange(len(lines)), line)
    return lines


async def outcome(services: Services, url: str, lines: Sequence[Line | bytes], tag: str) -> Outcome:
    """Imports the lines twice, with `tag` for `%`; returns what is reported and stored."""
    create = services.accounts.registration.create
    existing, moved = (parse_email(f"{name}-{tag}@example.com") for name in ("existing", "moved"))
    await create(existing, None, username=parse_username(f"has-{tag}"))
    owner = await create(moved, None)
    tokens, reserved = (
        EmailTokens(services.database, services.mail, services.settings),
        parse_email(f"reserved-{tag}@example.com"),
    )
    async with services.database.transaction() as store:
        await tokens.issue(store, owner, Purpose.REVERT_EMAIL_CHANGE, email=reserved)
    own = [
        line if isinstance(line, bytes) else json.loads(json.dumps(line).replace("%", tag))
        for line in lines
    ]
    summary, told = await run_import(services, own)
    again, _ = await run_import(services, own)
    assert again.added == 0
    found = [
        user for user in await stored_users(services.database) if f"-{tag}@" in user.email.lower()
    ]
    rows = sorted(
        (user.email, user.name, user.username, user.locale, user.mfa, bool(user.email_confirmed_at))
        for user in found
    )
    stored = json.loads(json.dumps(rows).replace(tag, "%"))
    names = {str(row[0]) for row in sql(url, "SELECT username FROM authapi_usernames")}
    own_names = sorted(name.replace(tag, "%") for name in names if name.endswith(tag))
    events = sql(url, "SELECT user_id FROM authapi_events WHERE type = 'account_imported'")
    ids = {user.id for user in found}
    kinds = [row for row in events if UUID(str(row[0])) in ids]
    assert len(kinds) == len(set(kinds)) == summary.added
    return summary, told, stored, own_names


@pytest.mark.slow
async def test_batches_add_what_single_lines_add(
    services_on_each: Services, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = services_on_each
    monkeypatch.setitem(vars(services.settings), "login_identifier", "both")
    refused = added = skipped = 0
    for seed in range(12):
        lines = some_lines(seed)
        with monkeypatch.context() as patch:
            patch.setattr(module, "_BATCH", 1)
            alone = await outcome(services, database_url, lines, f"a{seed:02}z")
        together = await outcome(services, database_url, lines, f"b{seed:02}z")
        assert together == alone, seed
        summary = alone[0]
        refused += summary.refused
        added += summary.added
        skipped += summary.skipped
        assert summary.added == len(alone[2]) - 2
    assert min(refused, added, skipped) > 10  # the seeds cover each result


async def test_an_account_that_appears_before_the_insert_is_skipped(
    services_on_each: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = services_on_each
    validate = AccountImporter._validate

    async def validated_before_a_registration(
        importer: AccountImporter, *arguments: object
    ) -> tuple[int, int]:
        found = await validate(importer, *arguments)  # type: ignore[arg-type]
        await services.accounts.registration.create(parse_email("b@example.com"), None)
        return found

    monkeypatch.setattr(AccountImporter, "_validate", validated_before_a_registration)
    lines: list[Line] = [{"email": f"{name}@EXAMPLE.com", "name": "imported"} for name in "abc"]
    assert await run_import(services, lines) == (Summary(3, 2, 1, 0), [])
    names = {user.email: user.name for user in await stored_users(services.database)}
    assert names == {
        "a@EXAMPLE.com": "imported",
        "b@example.com": None,
        "c@EXAMPLE.com": "imported",
    }


async def test_a_registration_during_the_insert_waits_and_is_refused(
    services_on_each: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = services_on_each
    add_missing, begun = UserTable.add_missing, asyncio.Event()
    registering: list[asyncio.Task[object]] = []

    async def register() -> None:
        begun.set()
        await services.accounts.registration.create(parse_email("b@example.com"), None)

    async def added_beside_a_registration(table: UserTable, users: object) -> set[object]:
        registering.append(asyncio.create_task(register()))
        await begun.wait()
        found = await add_missing(table, users)  # type: ignore[arg-type]
        assert not registering[0].done()  # it waits for the commit
        return found  # type: ignore[return-value]

    monkeypatch.setattr(UserTable, "add_missing", added_beside_a_registration)
    lines: list[Line] = [{"email": f"{name}@example.com"} for name in "abc"]
    assert await run_import(services, lines) == (Summary(3, 3, 0, 0), [])
    with pytest.raises(EmailTaken):
        await registering[0]
    assert len(await stored_users(services.database)) == 3


async def test_an_import_waits_for_a_registration_that_has_begun(
    services_on_each: Services,
) -> None:
    services, has_inserted, goes_on = services_on_each, asyncio.Event(), asyncio.Event()
    [other] = await asyncio.gather(
        services.accounts.registration.create(parse_email("other@example.com"), None)
    )

    async def change_address() -> None:
        async with services.database.transaction() as store:
            await store.users.lock_addresses("b@example.com", "other@example.com")
            at = other.created_at
            await store.users.set_email(other.id, email="b@example.com", given="B", at=at)
            has_inserted.set()
            await goes_on.wait()

    changing = asyncio.create_task(change_address())
    await has_inserted.wait()
    lines: list[Line] = [{"email": f"{name}@example.com"} for name in ("a", "b", "c", "other")]
    importing = asyncio.create_task(run_import(services, lines))
    done, _ = await asyncio.wait({importing}, timeout=0.3)
    assert not done
    goes_on.set()
    await changing
    # The address that the change has freed is imported, the one that it has taken is not.
    assert await importing == (Summary(4, 3, 1, 0), [])


async def test_progress_is_told_after_each_batch(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BATCH", 2)
    told: list[tuple[int, int | None]] = []
    importing = AccountImporter(services.database, services.audit, services.settings)
    text = b"".join(b'{"email":"%d@example.com"}\n' % number for number in range(5))
    await importing.run(io.BytesIO(text), lambda *_: None, on_progress=lambda *at: told.append(at))
    assert told == [(2, None), (4, None), (2, 5), (4, 5), (5, 5)]


async def test_the_next_lines_are_parsed_while_a_batch_is_added(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BATCH", 2)
    monkeypatch.setattr(module, "_LINES_IN_A_ROW", 1)
    log: list[str] = []
    importing = AccountImporter(services.database, services.audit, services.settings)
    parse, add = importing._parser.parse, importing._add

    def logged(text: bytes, number: int) -> object:
        log.append(f"parse {number}")
        return parse(text, number)

    async def logged_add(batch: Sequence[object]) -> int:
        log.append("begin")
        added = await add(batch)  # type: ignore[arg-type]
        log.append("end")
        return added

    monkeypatch.setattr(importing._parser, "parse", logged)
    monkeypatch.setattr(importing, "_add", logged_add)
    text = b"".join(b'{"email":"%d@example.com"}\n' % number for number in range(4))
    assert (await importing.run(io.BytesIO(text), lambda *_: None)).added == 4
    second = log[4:]  # after the validation
    assert second.index("begin") < second.index("parse 4") < second.index("end")
