"""Concurrent transactions on PostgreSQL: no deadlock, and no check is invalidated."""

import asyncio
import io
import itertools
import json
import random
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import anyio
import pytest

from authapi.clock import now
from authapi.crypto.secrets import hash_secret, new_secret
from authapi.domain.email_address import EmailAddress, parse_email
from authapi.domain.email_token import Purpose
from authapi.domain.session import SessionKind
from authapi.errors import AuthAPIError, EmailTaken, StorageUnavailable
from authapi.services.accounts.importing import AccountImporter
from authapi.storage import database
from authapi.storage.database import is_conflict
from authapi.storage.tables.email_tokens import EmailTokenTable
from authapi.storage.tables.sessions import SessionTable
from authapi.testing import PASSWORD
from tests.faults.harness.figures import scaled, spread
from tests.services.operations import (
    DAY,
    OPERATIONS,
    Harness,
    Person,
    make_everything_due,
    new_address,
    open_harness,
    register_by_mail,
)
from tests.storage.rows import sql

pytestmark = pytest.mark.slow


@pytest.fixture
async def harness(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Harness]:
    """Services that do not retry after a conflict, so that every conflict is seen."""
    monkeypatch.setattr(database, "_RETRY_PAUSES", ())
    async with open_harness(postgres_url, undo_lifetime=DAY) as found:
        yield found


@dataclass
class Race:
    """Runs calls concurrently, and counts their results."""

    rounds: int = 0
    conflicts: int = 0
    unavailable: int = 0
    seconds: list[float] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)

    async def run(self, *calls: Awaitable[object]) -> Sequence[object]:
        """Runs the calls concurrently. Returns results and AuthAPIErrors, raises other errors."""
        self.rounds += 1
        ready = asyncio.Barrier(len(calls))
        return await asyncio.gather(*(self._one(call, ready) for call in calls))

    async def _one(self, call: Awaitable[object], ready: asyncio.Barrier) -> object:
        await ready.wait()
        started_at = time.monotonic()
        try:
            return await call
        except StorageUnavailable as error:
            self.conflicts += is_conflict(error)
            self.unavailable += 1
            return error
        except AuthAPIError as error:
            self.kinds[type(error).__name__] += 1
            return error
        finally:
            self.seconds.append(time.monotonic() - started_at)

    def __str__(self) -> str:
        return (
            f"{self.rounds} rounds, {self.conflicts} deadlocks, {self.unavailable} unavailable, "
            f"waits {spread(self.seconds)}; refused {dict(self.kinds)}"
        )


def accounts_at(url: str, email: EmailAddress) -> int:
    [[count]] = sql(url, f"SELECT count(*) FROM authapi_users WHERE email = '{email.canonical}'")
    return int(count)


async def revert_token_in_mail(harness: Harness, person: Person) -> str:
    """The token that restores the person's previous address."""
    async with harness.services.database.read() as store:
        entries = await store.outbox.page("mail", limit=1000)
    mine = [entry for entry in entries if entry.user_id == person.id]
    [told] = [
        harness.services.outbox.decrypt_payload(it) for it in mine if it.purpose == "email_changed"
    ]
    return str(told["secret"])


# 43: an address whose owner changes to another one.

AssignAddress = Callable[[Harness, EmailAddress, Person], Awaitable[object]]


async def import_accounts(harness: Harness, email: EmailAddress, _: Person) -> None:
    services = harness.services
    line = json.dumps({"email": email.original}).encode()
    await AccountImporter(services.database, services.audit, services.settings).run(
        io.BytesIO(line), lambda *_: None
    )


async def change_address(harness: Harness, email: EmailAddress, other: Person) -> None:
    link = await harness.link(other, Purpose.CHANGE, email)
    await harness.services.accounts.email_changes.confirm_email(link, caller=other.caller)


ASSIGNMENTS: dict[str, AssignAddress] = {
    "register": lambda harness, email, _: harness.services.accounts.registration.register(
        email, PASSWORD, name=None
    ),
    "create": lambda harness, email, _: harness.services.accounts.registration.create(email, None),
    "invite": lambda harness, email, _: harness.services.accounts.administration.invite(
        email, actor=harness.root
    ),
    "register by mail": register_by_mail,
    "import": import_accounts,
    "change of address": change_address,
}


async def leave(harness: Harness, person: Person, link: str) -> None:
    await harness.services.accounts.email_changes.confirm_email(link, caller=person.caller)


async def check_revert(harness: Harness, url: str, person: Person, old: EmailAddress) -> None:
    """Checks that the previous address is free, and that its owner can restore it."""
    assert accounts_at(url, old) == 0
    await harness.services.accounts.email_changes.revert_email_change(
        await revert_token_in_mail(harness, person), entered_email=old
    )
    assert (await harness.services.accounts.profiles.find_by_email(old)).id == person.id


@pytest.mark.parametrize("assignment", ASSIGNMENTS)
async def test_a_reservation_between_check_and_insert_is_seen(
    harness: Harness, postgres_url: str, assignment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, other = await harness.person(), await harness.person()
    old, link = (
        parse_email(owner.user.email),
        await harness.link(owner, Purpose.CHANGE, new_address()),
    )
    leaving: list[asyncio.Task[None]] = []

    async def overtaken(check: Any, *args: Any, **kwargs: Any) -> Any:
        found = await check(*args, **kwargs)
        if not leaving:
            leaving.append(asyncio.create_task(leave(harness, owner, link)))
            await wait_until_done_or_blocked(leaving[0], postgres_url)
        return found

    with monkeypatch.context() as patch:
        for name in ("is_reserved", "find_reserved"):
            check = getattr(EmailTokenTable, name)
            patch.setattr(
                EmailTokenTable,
                name,
                lambda *args, _check=check, **kwargs: overtaken(_check, *args, **kwargs),
            )
        given = (await Race().run(ASSIGNMENTS[assignment](harness, old, other)))[0]
    if not leaving:  # refused earlier, as the owner still had the address
        await leave(harness, owner, link)
    await asyncio.gather(*leaving)
    assert not isinstance(given, StorageUnavailable)
    await check_revert(harness, postgres_url, owner, old)


async def wait_until_done_or_blocked(task: asyncio.Task[Any], url: str, *, count: int = 1) -> None:
    """Waits until `task` has ended, or `count` transactions wait for locks."""
    with anyio.fail_after(20):
        while not task.done() and await blocked_transactions(url) < count:
            pass


async def blocked_transactions(url: str) -> int:
    """The number of transactions of a database that wait for locks."""
    query = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    [[count]] = await asyncio.to_thread(sql, url, query)
    return int(count)


@pytest.mark.parametrize("assignment", ASSIGNMENTS)
async def test_a_previous_address_is_reserved_from_the_first_moment(
    harness: Harness, postgres_url: str, assignment: str
) -> None:
    race = Race()
    for _ in range(scaled(25, 250)):
        owner, others = await harness.person(), [await harness.person() for _ in range(6)]
        old, new = parse_email(owner.user.email), new_address()
        link = await harness.link(owner, Purpose.CHANGE, new)
        left, *_ = await race.run(
            leave(harness, owner, link),
            *(ASSIGNMENTS[assignment](harness, old, other) for other in others),
        )
        assert left is None
        await harness.handle_requests()
        await check_revert(harness, postgres_url, owner, old)
    print(f"{assignment}: {race}")  # noqa: T201  # the figures, with -s
    assert (race.conflicts, race.unavailable) == (0, 0)


async def test_concurrent_imports_of_the_same_addresses_in_different_orders(
    harness: Harness,
) -> None:
    race = Race()
    services, settings = harness.services, harness.services.settings
    for _ in range(10):
        emails = [new_address().original for _ in range(60)]
        texts = [
            "".join(json.dumps({"email": it}) + "\n" for it in order).encode()
            for order in (emails, emails[::-1], random.sample(emails, 60))
        ]
        found = await race.run(
            *(
                AccountImporter(services.database, services.audit, settings).run(
                    io.BytesIO(text), lambda *_: None
                )
                for text in texts
            )
        )
        assert sum(it.added for it in found) == 60  # type: ignore[attr-defined]  # summaries
    assert (race.conflicts, race.unavailable) == (0, 0)


# 44: reuse of a refresh token, concurrent with the end of its session.

ENDS = ("deactivate", "delete", "set password", "end all", "end sessions", "change password")


@pytest.mark.parametrize("end", ENDS)
async def test_reuse_of_a_refresh_token_concurrent_with_the_end_of_its_session(
    harness: Harness, end: str
) -> None:
    race, refresh_tokens = Race(), harness.services.tokens.refresh
    for _ in range(scaled(60, 600)):
        person = await harness.person()
        used = person.refresh
        for _ in range(2):
            await OPERATIONS["refresh"](harness, person, person)
        ended, *reused = await race.run(
            OPERATIONS[end](harness, person, person),
            *(refresh_tokens.refresh(used) for _ in range(3)),
        )
        assert not isinstance(ended, AuthAPIError)
        assert {type(it).__name__ for it in reused} == {"InvalidGrant"}
        assert person.refreshable.id not in {
            session.id for session in await harness.services.sessions.list_for_user(person.id)
        }
        events = await harness.services.audit.page(person.id, before=None, limit=100)
        assert sum(event.type == "refresh_reuse" for event in events) <= 1
    print(f"{end}: {race}")  # noqa: T201  # the figures, with -s
    assert (race.conflicts, race.unavailable) == (0, 0)


# 45: a flush of last uses, concurrent with the end of the sessions.


@pytest.mark.parametrize("end", ["end all", "end others", "deactivate", "delete", "prune"])
async def test_a_flush_concurrent_with_the_end_of_many_sessions(
    postgres_url: str, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_RETRY_PAUSES", ())
    race = Race()
    async with open_harness(postgres_url, max_sessions=1000) as harness:
        last_used = harness.services.last_used
        for _ in range(scaled(40, 400)):
            person = await harness.person()
            ids = [person.session_id, person.refreshable.id]
            for _ in range(30):
                session = await harness.create_session(
                    person.login, SessionKind.TOKEN, secret=hash_secret(new_secret())
                )
                ids.append(session.id)
            for key in sorted(ids, reverse=True):
                last_used.record(key, now(), idle=DAY)
            found = await race.run(last_used.flush(), OPERATIONS[end](harness, person, person))
            assert not any(isinstance(it, AuthAPIError) for it in found)
            await last_used.flush()
            assert not last_used._pending
    print(f"{end}: {race}")  # noqa: T201  # the figures, with -s
    assert (race.conflicts, race.unavailable) == (0, 0)


async def test_a_flush_does_not_wait_for_locked_sessions(
    harness: Harness, postgres_url: str
) -> None:
    person, last_used, race = await harness.person(), harness.services.last_used, Race()
    first, last = sorted([person.session_id, person.refreshable.id])
    for key in (first, last):
        last_used.record(key, now() + DAY / 2, idle=DAY)
    async with harness.services.database.transaction() as store:
        # Like a call that locks an account and ends several of its sessions in any order.
        await store.users.lock(person.id)
        await store.sessions.lock(last)
        flush = asyncio.create_task(race.run(last_used.flush()))
        await wait_until_done_or_blocked(flush, postgres_url)
        await store.sessions.lock(first)
    await flush
    assert (race.conflicts, race.unavailable) == (0, 0)


# Every pair of operations.

PAIRS = list(itertools.combinations_with_replacement(OPERATIONS, 2))
PASSKEY_PAIRS = [pair for pair in PAIRS if any("passkey" in name for name in pair)]


async def run_pairs(url: str, pairs: Sequence[tuple[str, str]]) -> Race:
    """Runs each pair on one account, and on two accounts in both roles."""
    race = Race()
    async with open_harness(url) as harness:
        for first, second in pairs:
            one, two = await harness.person(), await harness.person()
            await race.run(
                OPERATIONS[first](harness, one, two),
                OPERATIONS[second](harness, one, two),
                OPERATIONS[first](harness, two, one),
                OPERATIONS[second](harness, two, one),
            )
    return race


async def test_no_two_operations_deadlock(
    fresh_postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = some_of(PAIRS, scaled(400, len(PAIRS)))
    await check_pairs(fresh_postgres_url, pairs, monkeypatch)


async def test_no_operation_deadlocks_with_passkeys(
    fresh_postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(PASSKEY_PAIRS) > 4 * 60
    share = scaled(100, len(PASSKEY_PAIRS))
    await check_pairs(fresh_postgres_url, some_of(PASSKEY_PAIRS, share), monkeypatch)


def some_of(pairs: Sequence[tuple[str, str]], share: int) -> Sequence[tuple[str, str]]:
    """Random pairs."""
    seed = secrets.randbits(32)
    print(f"seed {seed}")  # noqa: T201  # pytest shows it with the failure
    return random.Random(seed).sample(pairs, share)  # no secret


async def check_pairs(
    url: str, pairs: Sequence[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Checks that no pair deadlocks, or is refused by the database."""
    make_everything_due(monkeypatch)
    monkeypatch.setattr(database, "_RETRY_PAUSES", ())
    race = await run_pairs(url, pairs)
    query = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    # The connections are closed, so the statistics of the server are complete.
    [[deadlocks]] = sql(url, query)
    print(f"{race}; in the statistics of the server {deadlocks}")  # noqa: T201
    assert (race.conflicts, race.unavailable, deadlocks) == (0, 0, 0)


async def test_two_browsers_that_swap_accounts(
    harness: Harness, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    race, end_by_secret, ended = Race(), SessionTable.end_by_secret, 0

    async def end_and_wait(*args: Any) -> Any:
        nonlocal ended
        found, ended = await end_by_secret(*args), ended + 1
        with anyio.fail_after(20):
            while ended < 2 and not await blocked_transactions(postgres_url):
                pass
        return found

    one, two = await harness.person(), await harness.person()
    monkeypatch.setattr(SessionTable, "end_by_secret", end_and_wait)
    operation = OPERATIONS["log in over another account"]
    found = await race.run(operation(harness, one, two), operation(harness, two, one))
    assert found == [None, None]
    assert (race.conflicts, race.unavailable) == (0, 0)


async def test_two_users_who_request_the_address_of_the_other(harness: Harness) -> None:
    race = Race()
    for _ in range(10):
        one, two = await harness.person(), await harness.person()
        operation = OPERATIONS["request a taken address"]
        assert await race.run(operation(harness, one, two), operation(harness, two, one)) == [
            None,
            None,
        ]
    assert (race.conflicts, race.unavailable) == (0, 0)


async def test_an_address_is_assigned_once(harness: Harness, postgres_url: str) -> None:
    for _ in range(5):
        email, people = new_address(), [await harness.person() for _ in range(6)]
        found = await Race().run(
            *(
                assign(harness, email, person)
                for assign, person in zip(ASSIGNMENTS.values(), people, strict=True)
            )
        )
        await harness.handle_requests()
        assert accounts_at(postgres_url, email) == 1
        refused = [it for it in found if isinstance(it, AuthAPIError)]
        assert {type(it) for it in refused} <= {EmailTaken}
