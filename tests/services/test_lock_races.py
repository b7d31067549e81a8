"""Transactions at the same moment on PostgreSQL: no deadlock, and what each has checked holds."""

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
from authapi.errors import AuthAPIError, EmailTaken, StorageUnavailable
from authapi.identity import SessionKind
from authapi.services.accounts.importing import Importing
from authapi.services.addresses import EmailAddress, parse_email
from authapi.storage import conflicts
from authapi.storage.conflicts import is_conflict
from authapi.storage.tables.one_time_secrets import OneTimeSecretTable, Purpose
from authapi.storage.tables.sessions import SessionTable
from authapi.testing import PASSWORD
from tests.faults.harness.figures import scaled, spread
from tests.services.deeds import (
    DAY,
    DEEDS,
    House,
    Person,
    fresh_address,
    house_at,
    make_everything_due,
    sign_up_by_mail,
)
from tests.storage.rows import sql

pytestmark = pytest.mark.slow


@pytest.fixture
async def house(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    """Services that run nothing again after a conflict, so that each one is seen."""
    monkeypatch.setattr(conflicts, "_PAUSES", ())
    async with house_at(postgres_url, undo_lifetime=DAY) as found:
        yield found


@dataclass
class Meeting:
    """What calls at the same moment came to."""

    rounds: int = 0
    conflicts: int = 0
    unavailable: int = 0
    seconds: list[float] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)

    async def of(self, *calls: Awaitable[object]) -> Sequence[object]:
        """Let them run at once; refusals are results. Raises what is no error of ours."""
        self.rounds += 1
        ready = asyncio.Barrier(len(calls))
        return await asyncio.gather(*(self._one(call, ready) for call in calls))

    async def _one(self, call: Awaitable[object], ready: asyncio.Barrier) -> object:
        await ready.wait()
        begun = time.monotonic()
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
            self.seconds.append(time.monotonic() - begun)

    def __str__(self) -> str:
        return (
            f"{self.rounds} rounds, {self.conflicts} deadlocks, {self.unavailable} unavailable, "
            f"waits {spread(self.seconds)}; refused {dict(self.kinds)}"
        )


def accounts_at(url: str, email: EmailAddress) -> int:
    [[count]] = sql(url, f"SELECT count(*) FROM users WHERE email = '{email.canonical}'")
    return int(count)


async def undo_in_mail(house: House, person: Person) -> str:
    """The secret that gives them their old address back."""
    async with house.services.database.read() as store:
        entries = await store.outbox.page("mail", limit=1000)
    mine = [entry for entry in entries if entry.user_id == person.id]
    [told] = [house.services.outbox.read(it) for it in mine if it.purpose == "email_changed"]
    return str(told["secret"])


# 43: an address that is being left.

Give = Callable[[House, EmailAddress, Person], Awaitable[object]]


async def bring_in(house: House, email: EmailAddress, _: Person) -> None:
    services = house.services
    line = json.dumps({"email": email.given}).encode()
    await Importing(services.database, services.audit, services.settings).run(
        io.BytesIO(line), lambda *_: None
    )


async def move_there(house: House, email: EmailAddress, other: Person) -> None:
    link = await house.link(other, Purpose.CHANGE, email)
    await house.services.emails.confirm(link, caller=other.caller)


GIVERS: dict[str, Give] = {
    "register": lambda house, email, _: house.services.registration.register(
        email, PASSWORD, name=None
    ),
    "create": lambda house, email, _: house.services.accounts.create(email, None),
    "invite": lambda house, email, _: house.services.administration.invite(email, by=house.root),
    "register by mail": sign_up_by_mail,
    "import": bring_in,
    "change of address": move_there,
}


async def leave(house: House, person: Person, link: str) -> None:
    await house.services.emails.confirm(link, caller=person.caller)


async def require_way_back(house: House, url: str, person: Person, old: EmailAddress) -> None:
    """The address that they left is free, and theirs again when they ask for it."""
    assert accounts_at(url, old) == 0
    await house.services.emails.undo(await undo_in_mail(house, person), typed=old)
    assert (await house.services.accounts.find_by_email(old)).id == person.id


@pytest.mark.parametrize("giver", GIVERS)
async def test_a_reservation_between_the_check_and_the_insert_is_seen(
    house: House, postgres_url: str, giver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, other = await house.person(), await house.person()
    old, link = (
        parse_email(owner.user.email),
        await house.link(owner, Purpose.CHANGE, fresh_address()),
    )
    leaving: list[asyncio.Task[None]] = []

    async def overtaken(check: Any, *args: Any, **kwargs: Any) -> Any:
        found = await check(*args, **kwargs)
        if not leaving:
            leaving.append(asyncio.create_task(leave(house, owner, link)))
            await done_or_waiting(leaving[0], postgres_url)
        return found

    with monkeypatch.context() as patch:
        for name in ("reserves", "reserved"):
            check = getattr(OneTimeSecretTable, name)
            patch.setattr(
                OneTimeSecretTable,
                name,
                lambda *args, _check=check, **kwargs: overtaken(_check, *args, **kwargs),
            )
        given = (await Meeting().of(GIVERS[giver](house, old, other)))[0]
    if not leaving:  # refused before, as the owner had not left
        await leave(house, owner, link)
    await asyncio.gather(*leaving)
    assert not isinstance(given, StorageUnavailable)
    await require_way_back(house, postgres_url, owner, old)


async def done_or_waiting(task: asyncio.Task[Any], url: str, *, count: int = 1) -> None:
    """Return when `task` has ended, or `count` transactions wait for locks."""
    with anyio.fail_after(20):
        while not task.done() and await waiting(url) < count:
            pass


async def waiting(url: str) -> int:
    """How many transactions of a database wait for locks."""
    query = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    [[count]] = await asyncio.to_thread(sql, url, query)
    return int(count)


@pytest.mark.parametrize("giver", GIVERS)
@pytest.mark.parametrize("rounds", [5, pytest.param(scaled(25, 250), marks=pytest.mark.slow)])
async def test_an_address_that_is_left_is_reserved_from_the_first_moment(
    house: House, postgres_url: str, giver: str, rounds: int
) -> None:
    meeting = Meeting()
    for _ in range(rounds):
        owner, others = await house.person(), [await house.person() for _ in range(6)]
        old, new = parse_email(owner.user.email), fresh_address()
        link = await house.link(owner, Purpose.CHANGE, new)
        left, *_ = await meeting.of(
            leave(house, owner, link), *(GIVERS[giver](house, old, other) for other in others)
        )
        assert left is None
        await house.handle()
        await require_way_back(house, postgres_url, owner, old)
    print(f"{giver}: {meeting}")  # noqa: T201  # the figures, with -s
    assert (meeting.conflicts, meeting.unavailable) == (0, 0)


async def test_two_imports_of_the_same_addresses_in_other_orders_meet(house: House) -> None:
    meeting = Meeting()
    services, settings = house.services, house.services.settings
    for _ in range(10):
        emails = [fresh_address().given for _ in range(60)]
        texts = [
            "".join(json.dumps({"email": it}) + "\n" for it in order).encode()
            for order in (emails, emails[::-1], random.sample(emails, 60))
        ]
        found = await meeting.of(
            *(
                Importing(services.database, services.audit, settings).run(
                    io.BytesIO(text), lambda *_: None
                )
                for text in texts
            )
        )
        assert sum(it.added for it in found) == 60  # type: ignore[attr-defined]  # summaries
    assert (meeting.conflicts, meeting.unavailable) == (0, 0)


# 44: a refresh token that is used again, beside what ends its session.

ENDS = ("deactivate", "delete", "set password", "end all", "end sessions", "change password")


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("rounds", [8, pytest.param(scaled(60, 600), marks=pytest.mark.slow)])
async def test_reuse_of_a_refresh_token_and_an_end_of_its_session_meet(
    house: House, end: str, rounds: int
) -> None:
    meeting, refresh_tokens = Meeting(), house.services.refresh_tokens
    for _ in range(rounds):
        person = await house.person()
        used = person.refresh
        for _ in range(2):
            await DEEDS["refresh"](house, person, person)
        ended, *reused = await meeting.of(
            DEEDS[end](house, person, person),
            *(refresh_tokens.exchange(used) for _ in range(3)),
        )
        assert not isinstance(ended, AuthAPIError)
        assert {type(it).__name__ for it in reused} == {"InvalidGrant"}
        assert person.renewed.id not in {
            session.id for session in await house.services.sessions.list_of(person.id)
        }
        events = await house.services.audit.page(person.id, before=None, limit=100)
        assert sum(event.type == "refresh_reuse" for event in events) <= 1
    print(f"{end}: {meeting}")  # noqa: T201  # the figures, with -s
    assert (meeting.conflicts, meeting.unavailable) == (0, 0)


# 45: last uses that are written, beside what ends the sessions.


@pytest.mark.parametrize("end", ["end all", "end others", "deactivate", "delete", "prune"])
@pytest.mark.parametrize("rounds", [8, pytest.param(scaled(40, 400), marks=pytest.mark.slow)])
async def test_a_flush_and_an_end_of_many_sessions_meet(
    postgres_url: str, end: str, rounds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conflicts, "_PAUSES", ())
    meeting = Meeting()
    async with house_at(postgres_url, max_sessions=1000) as house:
        activity = house.services.activity
        for _ in range(rounds):
            person = await house.person()
            ids = [person.session_id, person.renewed.id]
            for _ in range(30):
                begun = await house.begin(
                    person.login, SessionKind.TOKEN, secret=hash_secret(new_secret())
                )
                ids.append(begun.id)
            for key in sorted(ids, reverse=True):
                activity.saw(key, now(), idle=DAY)
            found = await meeting.of(activity.flush(), DEEDS[end](house, person, person))
            assert not any(isinstance(it, AuthAPIError) for it in found)
            await activity.flush()
            assert not activity._seen
    print(f"{end}: {meeting}")  # noqa: T201  # the figures, with -s
    assert (meeting.conflicts, meeting.unavailable) == (0, 0)


async def test_a_flush_waits_for_no_session(house: House, postgres_url: str) -> None:
    person, activity, meeting = await house.person(), house.services.activity, Meeting()
    first, last = sorted([person.session_id, person.renewed.id])
    for key in (first, last):
        activity.saw(key, now() + DAY / 2, idle=DAY)
    async with house.services.database.transaction() as store:
        # As a call that ends several sessions of an account that it holds, in any order.
        await store.users.lock(person.id)
        await store.sessions.lock(last)
        flush = asyncio.create_task(meeting.of(activity.flush()))
        await done_or_waiting(flush, postgres_url)
        await store.sessions.lock(first)
    await flush
    assert (meeting.conflicts, meeting.unavailable) == (0, 0)


# Every pair of calls.

PAIRS = list(itertools.combinations_with_replacement(DEEDS, 2))


async def meet_in_pairs(url: str, pairs: Sequence[tuple[str, str]]) -> Meeting:
    """Each pair on one account, and on two that change places."""
    meeting = Meeting()
    async with house_at(url) as house:
        for first, second in pairs:
            one, two = await house.person(), await house.person()
            await meeting.of(
                DEEDS[first](house, one, two),
                DEEDS[second](house, one, two),
                DEEDS[first](house, two, one),
                DEEDS[second](house, two, one),
            )
    return meeting


@pytest.mark.parametrize(
    "share",
    [60, pytest.param(scaled(400, len(PAIRS)), marks=pytest.mark.slow)],
    ids=["some", "many"],
)
async def test_no_two_calls_deadlock(
    fresh_postgres_url: str, share: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_everything_due(monkeypatch)
    monkeypatch.setattr(conflicts, "_PAUSES", ())
    seed = secrets.randbits(32)
    print(f"seed {seed}")  # noqa: T201  # pytest shows it with the failure
    pairs = random.Random(seed).sample(PAIRS, share)  # no secret
    meeting = await meet_in_pairs(fresh_postgres_url, pairs)
    query = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    # The connections are closed, and each has told the statistics of its end.
    [[deadlocks]] = sql(fresh_postgres_url, query)
    print(f"{meeting}; in the statistics of the server {deadlocks}")  # noqa: T201
    assert (meeting.conflicts, meeting.unavailable, deadlocks) == (0, 0, 0)


async def test_two_browsers_that_change_hands_meet(
    house: House, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    meeting, end_secret, ended = Meeting(), SessionTable.end_secret, 0

    async def end_and_wait(*args: Any) -> Any:
        nonlocal ended
        found, ended = await end_secret(*args), ended + 1
        with anyio.fail_after(20):
            while ended < 2 and not await waiting(postgres_url):
                pass
        return found

    one, two = await house.person(), await house.person()
    monkeypatch.setattr(SessionTable, "end_secret", end_and_wait)
    deed = DEEDS["log in over"]
    found = await meeting.of(deed(house, one, two), deed(house, two, one))
    assert found == [None, None]
    assert (meeting.conflicts, meeting.unavailable) == (0, 0)


async def test_two_who_ask_for_the_address_of_the_other_meet(house: House) -> None:
    meeting = Meeting()
    for _ in range(10):
        one, two = await house.person(), await house.person()
        deed = DEEDS["ask for a taken address"]
        assert await meeting.of(deed(house, one, two), deed(house, two, one)) == [None, None]
    assert (meeting.conflicts, meeting.unavailable) == (0, 0)


async def test_an_address_is_given_once(house: House, postgres_url: str) -> None:
    for _ in range(5):
        email, people = fresh_address(), [await house.person() for _ in range(6)]
        found = await Meeting().of(
            *(
                give(house, email, person)
                for give, person in zip(GIVERS.values(), people, strict=True)
            )
        )
        await house.handle()
        assert accounts_at(postgres_url, email) == 1
        refused = [it for it in found if isinstance(it, AuthAPIError)]
        assert {type(it) for it in refused} <= {EmailTaken}
