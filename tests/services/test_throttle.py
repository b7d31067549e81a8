"""Counting attempts: what is counted where, what is given back, and what stands in for what."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine

from authapi import Settings
from authapi.errors import (
    ConfigurationError,
    InvalidCredentials,
    Overloaded,
    StorageUnavailable,
    TooManyAttempts,
    WrongPassword,
)
from authapi.identity import Client, network_of
from authapi.services.counters import MemoryCounters
from authapi.services.throttle import Throttle
from tests.clocks import clock_is_set, time_passes
from tests.servers.valkey import ValkeyServer
from tests.storage.cancelling import Steps

NOON = datetime(2031, 5, 6, 12, tzinfo=UTC)
HERE = Client(ip="192.0.2.1")
THERE = Client(ip="198.51.100.1")
LIMITS = ("limit_account_and_network", "limit_account", "limit_network", "limit_total")


def throttle(**limits: str) -> Throttle:
    return Throttle(Settings(**limits))  # type: ignore[arg-type]


async def fail(
    subject: Throttle,
    account: str = "victim",
    client: Client = HERE,
    *,
    error: type[Exception] = InvalidCredentials,
) -> None:
    """One attempt that ends in `error`, or raises TooManyAttempts."""
    try:
        async with subject.attempt(account, client):
            raise error
    except error:
        return


async def succeed(subject: Throttle, account: str = "victim", client: Client = HERE) -> None:
    async with subject.attempt(account, client):
        return


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::ffff:c000:201", "192.0.2.1"),
        ("2001:db8:0:1::", "2001:db8:0:1::/64"),
        ("2001:db8:0:1:ffff:ffff:ffff:ffff", "2001:db8:0:1::/64"),
        ("2001:DB8::0001:0:0:0:9", "2001:db8:0:1::/64"),
        ("2001:db8:0:2::1", "2001:db8:0:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
        (None, "unknown"),
        ("", "unknown"),
        ("testclient", "unknown"),
        ("192.0.2.1:443", "unknown"),
        ("0300.0.2.1", "unknown"),
    ],
)
def test_the_network_of_an_address(address: str | None, network: str) -> None:
    assert network_of(address) == network


@pytest.mark.parametrize("error", [InvalidCredentials, WrongPassword])
async def test_a_wrong_password_stays_counted(error: type[Exception]) -> None:
    subject = throttle(limit_account_and_network="2/minute")
    await fail(subject, error=error)
    await fail(subject, error=error)
    with pytest.raises(TooManyAttempts):
        await succeed(subject)


@pytest.mark.parametrize("error", [Overloaded, StorageUnavailable])
async def test_what_was_our_fault_is_given_back(error: type[Exception]) -> None:
    subject = throttle(limit_account_and_network="2/minute")
    for _ in range(5):
        await fail(subject, error=error)
    await fail(subject)
    await fail(subject)
    with pytest.raises(TooManyAttempts):
        await fail(subject)


async def test_success_gives_back_its_own_attempt_and_no_other() -> None:
    subject = throttle(limit_account_and_network="2/minute")
    await fail(subject)
    for _ in range(5):
        await succeed(subject)
    await fail(subject)
    with pytest.raises(TooManyAttempts):
        await succeed(subject)


@pytest.mark.parametrize("limit", LIMITS)
async def test_what_one_limit_refuses_uses_up_no_other(limit: str) -> None:
    limits = dict.fromkeys(LIMITS, "3/minute")
    subject = throttle(**limits | {limit: "1/minute"})
    await fail(subject)
    for _ in range(10):
        with pytest.raises(TooManyAttempts):
            await fail(subject)
    held = list(subject._local.storage._counters.values())  # type: ignore[attr-defined]
    assert [count for count, _ in held] == [1, 1, 1, 1]


async def test_attempts_refused_for_others_in_flight_block_nobody_afterwards() -> None:
    subject = throttle(limit_account_and_network="2/minute")
    entered, proved = asyncio.Semaphore(0), asyncio.Event()

    async def slow() -> None:
        async with subject.attempt("victim", HERE):
            entered.release()
            await proved.wait()

    tasks = [asyncio.create_task(slow()) for _ in range(2)]
    for _ in tasks:
        await entered.acquire()
    for _ in range(20):
        with pytest.raises(TooManyAttempts):
            await succeed(subject)
    proved.set()
    await asyncio.gather(*tasks)
    await succeed(subject)


async def test_an_abandoned_attempt_stays_counted() -> None:
    subject = throttle(limit_account_and_network="1/minute")
    entered = asyncio.Event()

    async def slow() -> None:
        async with subject.attempt("victim", HERE):
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(slow())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(TooManyAttempts):
        await succeed(subject)


async def test_what_nobody_foresaw_stays_counted() -> None:
    subject = throttle(limit_account_and_network="1/minute")
    await fail(subject, error=ZeroDivisionError)
    with pytest.raises(TooManyAttempts):
        await succeed(subject)


async def test_retry_after_is_what_is_left_of_the_window() -> None:
    subject = throttle(limit_account_and_network="1/minute")
    with time_passes(NOON) as clock:
        await fail(subject)
        for second, left in ((0, 60), (0.5, 60), (59, 1), (59.9, 1)):
            clock.move_to(NOON + timedelta(seconds=second))
            with pytest.raises(TooManyAttempts) as refusal:
                await fail(subject)
            assert refusal.value.retry_after == left
        clock.move_to(NOON + timedelta(seconds=60))
        await fail(subject)


async def test_registrations_count_by_network_and_altogether() -> None:
    subject = throttle(limit_registrations="2/minute", limit_total="3/minute")
    await subject.registration(HERE)
    await subject.registration(HERE)
    for _ in range(5):
        with pytest.raises(TooManyAttempts):
            await subject.registration(HERE)
    await subject.registration(THERE)
    with pytest.raises(TooManyAttempts):
        await subject.registration(Client(ip="203.0.113.1"))
    await fail(subject)  # logins are another matter


async def test_a_network_that_is_refused_leaves_nothing_behind_for_each_account() -> None:
    subject = throttle(limit_network="1/minute")
    for number in range(1000):
        try:
            await fail(subject, f"account{number}")
        except TooManyAttempts:
            continue
    assert len(subject._local.storage._counters) == 5  # type: ignore[attr-defined]


async def test_a_counter_begins_with_its_first_hit_and_ends_with_its_window() -> None:
    counters = MemoryCounters()
    with time_passes(NOON) as clock:
        assert await counters.get("a") == 0
        assert await counters.get_expiry("a") == NOON.timestamp()
        assert [await counters.incr("a", 60) for _ in range(3)] == [1, 2, 3]
        clock.shift(59)
        assert await counters.incr("a", 60, -1) == 2
        assert await counters.get_expiry("a") == NOON.timestamp() + 60
        clock.shift(1)
        assert await counters.get("a") == 0
        assert await counters.incr("a", 60) == 1
        assert await counters.get_expiry("a") == NOON.timestamp() + 120


@pytest.mark.parametrize("hours", [-1, 1, -24 * 365], ids=["back", "ahead", "a-year-back"])
async def test_a_window_lasts_as_long_whatever_the_clock_is_set_to(hours: int) -> None:
    subject = throttle(limit_account_and_network="1/minute", limit_registrations="1/minute")
    with clock_is_set(NOON) as (clock, monotonic):
        await fail(subject)
        await subject.registration(HERE)
        clock.shift(timedelta(hours=hours))
        for passed, left in ((0, 60), (59, 1)):
            monotonic.seconds = 1000.0 + passed
            for refused in (fail(subject), subject.registration(HERE)):
                with pytest.raises(TooManyAttempts) as refusal:
                    await refused
                assert refusal.value.retry_after == left
        monotonic.seconds += 1
        await fail(subject)
        await subject.registration(HERE)


async def mails(subject: Throttle, purpose: str = "reset", *, is_used: bool = True) -> bool:
    """Whether one mail is admitted."""
    async with subject.mail(purpose, "victim") as turn:
        turn.is_used = is_used
    return turn.is_admitted


async def test_mail_to_one_address_is_counted_by_the_same_clock() -> None:
    subject = throttle(limit_mails="1/minute")
    with clock_is_set(NOON) as (clock, monotonic):
        assert await mails(subject)
        clock.shift(timedelta(hours=-1))
        assert not await mails(subject)
        monotonic.seconds += 60
        assert await mails(subject)


async def mail_and_fail(subject: Throttle) -> None:
    async with subject.mail("reset", "victim") as turn:
        turn.is_used = True
        raise ZeroDivisionError


async def test_mail_counts_where_it_leaves_and_by_purpose() -> None:
    subject = throttle(limit_mails="1/minute")
    for _ in range(5):
        assert await mails(subject, is_used=False)
        with pytest.raises(ZeroDivisionError):
            await mail_and_fail(subject)
    assert await mails(subject)
    for _ in range(5):
        assert not await mails(subject)
    assert await mails(subject, "confirm")
    assert set(counted(subject).values()) == {1}


async def test_a_window_in_the_shared_store_ends_by_the_clock_of_the_store(
    shared: Throttle,
) -> None:
    await fail(shared)
    await fail(shared)
    with time_machine.travel(datetime.now(UTC) - timedelta(hours=1)):
        with pytest.raises(TooManyAttempts) as refusal:
            await succeed(shared)
        assert 1 <= refusal.value.retry_after <= 60


async def test_a_question_that_fails_leaves_nothing_counted() -> None:
    subject = throttle(limit_account="1/hour", limit_account_and_network="9/minute")
    await fail(subject)

    async def fails() -> bool:
        raise ZeroDivisionError

    async def is_abandoned() -> bool:
        raise asyncio.CancelledError

    held = dict(subject._local.storage._counters)  # type: ignore[attr-defined]
    for question in (fails, is_abandoned):
        with pytest.raises((ZeroDivisionError, asyncio.CancelledError)):
            async with subject.attempt("victim", HERE, at_home=question):
                pass
        counted = subject._local.storage._counters  # type: ignore[attr-defined]
        asked = {key: one for key, one in counted.items() if "home-asked" in key}
        assert {**held, **asked} == counted


async def test_what_is_cut_off_while_it_is_counted_or_given_back_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As with a shared store, where each counter is an await of its own."""
    incr = MemoryCounters.incr

    async def slowly(self: MemoryCounters, *what: Any, **more: Any) -> int:
        await asyncio.sleep(0)
        return await incr(self, *what, **more)

    monkeypatch.setattr(MemoryCounters, "incr", slowly)
    subject = throttle(limit_account="2/hour")
    for refused in (False, True):
        if refused:
            await fail(subject)
            await fail(subject)
        held = counted(subject)
        for at in range(1, 40):
            steps = Steps(at)
            with suppress(TooManyAttempts):
                await steps.run(succeed(subject))
            await asyncio.sleep(0)
            if not steps.is_cut:
                break
            assert counted(subject) == held, at
        assert at > 4


def counted(subject: Throttle) -> dict[str, int]:
    counters = subject._local.storage._counters  # type: ignore[attr-defined]
    return {key: one[0] for key, one in counters.items() if one[0]}


async def test_a_counter_never_falls_below_zero() -> None:
    counters = MemoryCounters()
    for _ in range(5):
        assert await counters.incr("a", 60, -1) == 0
    assert await counters.incr("a", 60) == 1


async def test_dead_counters_are_swept_out_and_live_ones_stay() -> None:
    counters = MemoryCounters()
    with time_passes(NOON) as clock:
        await counters.incr("day", 86400, 7)
        for number in range(10_000):
            await counters.incr(f"minute {number}", 60)
        assert await counters.get("minute 0") == 1
        clock.shift(61)
        for number in range(10_000):
            await counters.incr(f"hour {number}", 3600)
        assert await counters.reset() == 10_001
        assert await counters.check()


async def test_ten_thousand_accounts_make_no_attempt_slower(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # What walks through the table may do so only so often that each hit costs the same.
    looked_at = 0
    sweep = MemoryCounters._sweep

    def counted(counters: MemoryCounters, now: float) -> None:
        nonlocal looked_at
        looked_at += len(counters._counters)
        sweep(counters, now)

    monkeypatch.setattr(MemoryCounters, "_sweep", counted)
    subject = throttle(limit_network="20000/minute", limit_total="20000/minute")
    for number in range(10_000):
        await fail(subject, f"account{number}")
    assert looked_at < 5 * 10_000


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is busy does not pass for a store that is away."""
    monkeypatch.setattr("authapi.services.throttle._SHARED_TIMEOUT", 30)


@pytest.fixture
async def shared(patience: None, valkey: ValkeyServer) -> AsyncIterator[Throttle]:
    subject = throttle(redis_url=valkey.url, limit_account_and_network="2/minute")
    yield subject
    await subject.close()


async def test_two_processes_share_one_store(shared: Throttle, valkey: ValkeyServer) -> None:
    other = throttle(redis_url=valkey.url, limit_account_and_network="2/minute")
    await fail(shared)
    await fail(other)
    for subject in (shared, other):
        with pytest.raises(TooManyAttempts) as refusal:
            await succeed(subject)
        assert 1 <= refusal.value.retry_after <= 60
    assert await other.ping()
    await other.close()


async def test_success_gives_back_in_the_shared_store(
    shared: Throttle, valkey: ValkeyServer
) -> None:
    await succeed(shared)
    assert {valkey.command("GET", key) for key in valkey.held()} == {"$1\r\n0"}
    await fail(shared)
    # Each key has an end, also where a success had counted it down to nothing before.
    assert all(int(valkey.command("TTL", key)[1:]) > 0 for key in valkey.held())


async def test_no_address_and_no_account_is_readable_in_the_shared_store(
    shared: Throttle, valkey: ValkeyServer
) -> None:
    await fail(shared, "victim@example.com")
    assert len(valkey.held()) == 4
    assert not any("victim" in key or "@" in key for key in valkey.held())


async def test_memory_stands_in_while_the_store_is_away(
    shared: Throttle, valkey: ValkeyServer, caplog: pytest.LogCaptureFixture
) -> None:
    await fail(shared)
    valkey.kill()
    with caplog.at_level(logging.WARNING, "authapi"):
        assert not await shared.ping()
        await fail(shared)
        await fail(shared)
        with pytest.raises(TooManyAttempts):
            await fail(shared)
    assert valkey.password not in caplog.text
    assert len(caplog.records) == 1


async def test_what_memory_counted_is_not_given_back_to_the_store(
    shared: Throttle, valkey: ValkeyServer
) -> None:
    valkey.kill()
    async with shared.attempt("victim", HERE):
        valkey.start()
        shared._shared_from = 0
    assert valkey.held() == []


async def test_a_store_that_was_restarted_counts_at_once(
    shared: Throttle, valkey: ValkeyServer, caplog: pytest.LogCaptureFixture
) -> None:
    await fail(shared)
    valkey.kill()
    valkey.start()
    await fail(shared)
    assert valkey.held()
    assert not caplog.records


async def test_what_is_given_back_after_its_window_admits_nobody_more(
    shared: Throttle, valkey: ValkeyServer
) -> None:
    async with shared.attempt("victim", HERE):
        for key in valkey.held():  # as if their windows had ended
            valkey.command("DEL", key)
    assert {valkey.command("GET", key) for key in valkey.held()} == {"$1\r\n0"}
    await fail(shared)
    await fail(shared)
    with pytest.raises(TooManyAttempts):
        await succeed(shared)


async def test_what_the_store_counted_is_not_given_back_to_memory(
    shared: Throttle, valkey: ValkeyServer
) -> None:
    async with shared.attempt("victim", HERE):
        valkey.kill()
    await fail(shared)
    await fail(shared)
    with pytest.raises(TooManyAttempts):
        await fail(shared)


@pytest.mark.parametrize(
    "poison", [("SET", "many"), ("SET", "9" * 30), ("LPUSH", "x"), ("HSET", "x", "y")]
)
async def test_what_others_write_into_the_store_breaks_nothing(
    shared: Throttle, valkey: ValkeyServer, poison: tuple[str, ...]
) -> None:
    await fail(shared)
    for key in valkey.held():
        valkey.command("DEL", key)
        valkey.command(poison[0], key, *poison[1:])
    await fail(shared)
    await fail(shared)
    with pytest.raises(TooManyAttempts):
        await fail(shared)


@pytest.mark.usefixtures("patience")
async def test_a_store_that_cannot_be_spoken_to_is_as_good_as_away(valkey: ValkeyServer) -> None:
    # An option that the client does not know is found out only when it connects.
    url = f"{valkey.url}?unknown=1"
    subject = throttle(redis_url=url, limit_account_and_network="2/minute")
    assert not await subject.ping()
    await fail(subject)
    await fail(subject)
    with pytest.raises(TooManyAttempts):
        await fail(subject)


async def test_a_command_that_pings_leaves_no_connection(
    shared: Throttle, valkey: ValkeyServer
) -> None:
    assert await shared.ping()
    # `CLIENT LIST` names the one that asks, and nobody else.
    assert valkey.command("CLIENT", "LIST").count("addr=127.0.0.1") == 1 * 2  # laddr and addr
    assert not await throttle().ping()


@pytest.mark.parametrize(
    "url",
    [
        "http://:hunter2@127.0.0.1:6379",
        "redis://:hunter2@127.0.0.1:port",
        "redis://:hunter2@127.0.0.1:99999",
        "redis://:hunter2@[::1",
        "redis://:hunter2@127.0.0.1",
        "memory://hunter2",
        "hunter2",
    ],
)
def test_a_wrong_url_is_one_line_without_the_password(url: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        throttle(redis_url=url)
    message = str(refusal.value)
    assert "AUTHAPI_REDIS_URL" in message
    assert "\n" not in message
    assert "hunter2" not in message
    assert refusal.value.__suppress_context__ or refusal.value.__context__ is None


async def test_one_network_cannot_keep_the_owner_out() -> None:
    subject = throttle()
    with time_passes(NOON) as clock:
        for _ in range(
            12 * 60
        ):  # twelve hours of guessing, every minute, as much as is let through
            for _ in range(12):
                try:
                    await fail(subject)
                except TooManyAttempts:
                    break
            clock.shift(timedelta(minutes=1))
            await succeed(subject, client=THERE)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("redis://u:hunter2@h:6379/0#hunter2", "written %40 %2F %3F %23"),
        ("redis://h:6379/hunter2", "must end with the number of a database"),
        ("redis://h:6379/0?ssl=hunter2", "write rediss:// for TLS"),
        ("rediss://h:6379/?TLS=hunter2", "write rediss:// for TLS"),
    ],
)
def test_what_the_library_would_pass_over_is_refused(url: str, reason: str) -> None:
    with pytest.raises(ConfigurationError, match="AUTHAPI_REDIS_URL") as refusal:
        throttle(redis_url=url)
    assert reason in str(refusal.value)
    assert "hunter2" not in str(refusal.value)
