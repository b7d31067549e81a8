"""Rate limits: which attempts are counted and refunded, and in which storage."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine

from authapi import Settings
from authapi.domain.client import Client, network_of
from authapi.errors import (
    ConfigurationError,
    InvalidCredentials,
    Overloaded,
    StorageUnavailable,
    TooManyAttempts,
    WrongPassword,
)
from authapi.services.rate_limit_storage import MemoryRateLimitStorage
from authapi.services.rate_limits import RateLimits
from tests.clocks import set_system_clock, travel_to
from tests.servers.valkey import ValkeyServer
from tests.storage.cancelling import Steps

NOON = datetime(2031, 5, 6, 12, tzinfo=UTC)
HERE = Client(ip="192.0.2.1")
THERE = Client(ip="198.51.100.1")
LIMITS = ("limit_account_and_network", "limit_account", "limit_network", "limit_total")


def rate_limits(**limits: str) -> RateLimits:
    return RateLimits(Settings(**limits))  # type: ignore[arg-type]


async def fail(
    subject: RateLimits,
    account: str = "victim",
    client: Client = HERE,
    *,
    error: type[Exception] = InvalidCredentials,
) -> None:
    """One attempt that ends in `error`, or raises TooManyAttempts."""
    try:
        async with subject.login_attempt(account, client):
            raise error
    except error:
        return


async def succeed(subject: RateLimits, account: str = "victim", client: Client = HERE) -> None:
    async with subject.login_attempt(account, client):
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
def test_network_of_an_address(address: str | None, network: str) -> None:
    assert network_of(address) == network


@pytest.mark.parametrize("error", [InvalidCredentials, WrongPassword])
async def test_failed_attempt_stays_counted(error: type[Exception]) -> None:
    subject = rate_limits(limit_account_and_network="2/minute")
    await fail(subject, error=error)
    await fail(subject, error=error)
    with pytest.raises(TooManyAttempts):
        await succeed(subject)


@pytest.mark.parametrize("error", [Overloaded, StorageUnavailable])
async def test_attempt_that_failed_for_a_server_error_is_refunded(error: type[Exception]) -> None:
    subject = rate_limits(limit_account_and_network="2/minute")
    for _ in range(5):
        await fail(subject, error=error)
    await fail(subject)
    await fail(subject)
    with pytest.raises(TooManyAttempts):
        await fail(subject)


async def test_success_refunds_only_its_own_attempt() -> None:
    subject = rate_limits(limit_account_and_network="2/minute")
    await fail(subject)
    for _ in range(5):
        await succeed(subject)
    await fail(subject)
    with pytest.raises(TooManyAttempts):
        await succeed(subject)


@pytest.mark.parametrize("limit", LIMITS)
async def test_rejected_attempt_does_not_consume_other_limits(limit: str) -> None:
    limits = dict.fromkeys(LIMITS, "3/minute")
    subject = rate_limits(**limits | {limit: "1/minute"})
    await fail(subject)
    for _ in range(10):
        with pytest.raises(TooManyAttempts):
            await fail(subject)
    held = list(subject._local.storage._counters.values())  # type: ignore[attr-defined]
    assert [count for count, _ in held] == [1, 1, 1, 1]


async def test_attempts_rejected_during_concurrent_logins_do_not_block_later_ones() -> None:
    subject = rate_limits(limit_account_and_network="2/minute")
    entered, proved = asyncio.Semaphore(0), asyncio.Event()

    async def slow() -> None:
        async with subject.login_attempt("victim", HERE):
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


async def test_cancelled_attempt_stays_counted() -> None:
    subject = rate_limits(limit_account_and_network="1/minute")
    entered = asyncio.Event()

    async def slow() -> None:
        async with subject.login_attempt("victim", HERE):
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(slow())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(TooManyAttempts):
        await succeed(subject)


async def test_attempt_with_an_unexpected_error_stays_counted() -> None:
    subject = rate_limits(limit_account_and_network="1/minute")
    await fail(subject, error=ZeroDivisionError)
    with pytest.raises(TooManyAttempts):
        await succeed(subject)


async def test_retry_after_is_the_rest_of_the_window() -> None:
    subject = rate_limits(limit_account_and_network="1/minute")
    with travel_to(NOON) as clock:
        await fail(subject)
        for second, left in ((0, 60), (0.5, 60), (59, 1), (59.9, 1)):
            clock.move_to(NOON + timedelta(seconds=second))
            with pytest.raises(TooManyAttempts) as refusal:
                await fail(subject)
            assert refusal.value.retry_after == left
        clock.move_to(NOON + timedelta(seconds=60))
        await fail(subject)


async def test_registrations_count_by_network_and_in_total() -> None:
    subject = rate_limits(limit_registrations="2/minute", limit_total="3/minute")
    await subject.consume_registration(HERE)
    await subject.consume_registration(HERE)
    for _ in range(5):
        with pytest.raises(TooManyAttempts):
            await subject.consume_registration(HERE)
    await subject.consume_registration(THERE)
    with pytest.raises(TooManyAttempts):
        await subject.consume_registration(Client(ip="203.0.113.1"))
    await fail(subject)  # logins have counters of their own


async def test_rejected_network_creates_no_counters_for_accounts() -> None:
    subject = rate_limits(limit_network="1/minute")
    for number in range(1000):
        try:
            await fail(subject, f"account{number}")
        except TooManyAttempts:
            continue
    assert len(subject._local.storage._counters) == 5  # type: ignore[attr-defined]


async def test_window_begins_with_the_first_hit() -> None:
    counters = MemoryRateLimitStorage()
    with travel_to(NOON) as clock:
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
async def test_window_does_not_depend_on_the_system_clock(hours: int) -> None:
    subject = rate_limits(limit_account_and_network="1/minute", limit_registrations="1/minute")
    with set_system_clock(NOON) as (clock, monotonic):
        await fail(subject)
        await subject.consume_registration(HERE)
        clock.shift(timedelta(hours=hours))
        for passed, left in ((0, 60), (59, 1)):
            monotonic.seconds = 1000.0 + passed
            for refused in (fail(subject), subject.consume_registration(HERE)):
                with pytest.raises(TooManyAttempts) as refusal:
                    await refused
                assert refusal.value.retry_after == left
        monotonic.seconds += 1
        await fail(subject)
        await subject.consume_registration(HERE)


async def mails(subject: RateLimits, purpose: str = "reset", *, is_used: bool = True) -> bool:
    """Whether one mail is allowed."""
    async with subject.allow_mail(purpose, "victim") as turn:
        turn.is_used = is_used
    return turn.is_allowed


async def test_mail_window_does_not_depend_on_the_system_clock() -> None:
    subject = rate_limits(limit_mails="1/minute")
    with set_system_clock(NOON) as (clock, monotonic):
        assert await mails(subject)
        clock.shift(timedelta(hours=-1))
        assert not await mails(subject)
        monotonic.seconds += 60
        assert await mails(subject)


async def mail_and_fail(subject: RateLimits) -> None:
    async with subject.allow_mail("reset", "victim") as turn:
        turn.is_used = True
        raise ZeroDivisionError


async def test_mail_counts_by_purpose_and_only_if_sent() -> None:
    subject = rate_limits(limit_mails="1/minute")
    for _ in range(5):
        assert await mails(subject, is_used=False)
        with pytest.raises(ZeroDivisionError):
            await mail_and_fail(subject)
    assert await mails(subject)
    for _ in range(5):
        assert not await mails(subject)
    assert await mails(subject, "confirm")
    assert set(counted(subject).values()) == {1}


async def test_shared_window_ends_by_the_clock_of_the_storage(
    shared: RateLimits,
) -> None:
    await fail(shared)
    await fail(shared)
    with time_machine.travel(datetime.now(UTC) - timedelta(hours=1)):
        with pytest.raises(TooManyAttempts) as refusal:
            await succeed(shared)
        assert 1 <= refusal.value.retry_after <= 60


async def test_failing_known_network_check_leaves_nothing_counted() -> None:
    subject = rate_limits(limit_account="1/hour", limit_account_and_network="9/minute")
    await fail(subject)

    async def fails() -> bool:
        raise ZeroDivisionError

    async def is_cancelled() -> bool:
        raise asyncio.CancelledError

    held = dict(subject._local.storage._counters)  # type: ignore[attr-defined]
    for question in (fails, is_cancelled):
        with pytest.raises((ZeroDivisionError, asyncio.CancelledError)):
            async with subject.login_attempt("victim", HERE, known_network=question):
                pass
        counted = subject._local.storage._counters  # type: ignore[attr-defined]
        asked = {key: one for key, one in counted.items() if "known-network" in key}
        assert {**held, **asked} == counted


async def test_cancellation_while_consuming_or_refunding_leaves_nothing_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As with a shared storage, where each counter is awaited separately."""
    incr = MemoryRateLimitStorage.incr

    async def slow_incr(self: MemoryRateLimitStorage, *args: Any, **kwargs: Any) -> int:
        await asyncio.sleep(0)
        return await incr(self, *args, **kwargs)

    monkeypatch.setattr(MemoryRateLimitStorage, "incr", slow_incr)
    subject = rate_limits(limit_account="2/hour")
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


def counted(subject: RateLimits) -> dict[str, int]:
    counters = subject._local.storage._counters  # type: ignore[attr-defined]
    return {key: one[0] for key, one in counters.items() if one[0]}


async def test_counter_never_falls_below_zero() -> None:
    counters = MemoryRateLimitStorage()
    for _ in range(5):
        assert await counters.incr("a", 60, -1) == 0
    assert await counters.incr("a", 60) == 1


async def test_sweep_removes_only_expired_counters() -> None:
    counters = MemoryRateLimitStorage()
    with travel_to(NOON) as clock:
        await counters.incr("day", 86400, 7)
        for number in range(10_000):
            await counters.incr(f"minute {number}", 60)
        assert await counters.get("minute 0") == 1
        clock.shift(61)
        for number in range(10_000):
            await counters.incr(f"hour {number}", 3600)
        assert await counters.reset() == 10_001
        assert await counters.check()


async def test_ten_thousand_counters_do_not_slow_down_attempts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The table may be swept only so often that the cost of a hit does not depend on its size.
    looked_at = 0
    sweep = MemoryRateLimitStorage._sweep

    def counted(counters: MemoryRateLimitStorage, now: float) -> None:
        nonlocal looked_at
        looked_at += len(counters._counters)
        sweep(counters, now)

    monkeypatch.setattr(MemoryRateLimitStorage, "_sweep", counted)
    subject = rate_limits(limit_network="20000/minute", limit_total="20000/minute")
    for number in range(10_000):
        await fail(subject, f"account{number}")
    assert looked_at < 5 * 10_000


@pytest.fixture
def long_redis_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents time-outs on a busy machine: the storage must not count as unavailable."""
    monkeypatch.setattr("authapi.services.rate_limit_storage._REDIS_TIMEOUT", 30)


@pytest.fixture
async def shared(long_redis_timeout: None, valkey: ValkeyServer) -> AsyncIterator[RateLimits]:
    subject = rate_limits(redis_url=valkey.url, limit_account_and_network="2/minute")
    yield subject
    await subject.close()


async def test_two_processes_share_one_storage(shared: RateLimits, valkey: ValkeyServer) -> None:
    other = rate_limits(redis_url=valkey.url, limit_account_and_network="2/minute")
    await fail(shared)
    await fail(other)
    for subject in (shared, other):
        with pytest.raises(TooManyAttempts) as refusal:
            await succeed(subject)
        assert 1 <= refusal.value.retry_after <= 60
    assert await other.ping()
    await other.close()


async def test_success_is_refunded_in_the_shared_storage(
    shared: RateLimits, valkey: ValkeyServer
) -> None:
    await succeed(shared)
    assert {valkey.command("GET", key) for key in valkey.held()} == {"$1\r\n0"}
    await fail(shared)
    # Each key expires, also if a success had refunded it to 0 before.
    assert all(int(valkey.command("TTL", key)[1:]) > 0 for key in valkey.held())


async def test_shared_storage_holds_no_readable_addresses_or_accounts(
    shared: RateLimits, valkey: ValkeyServer
) -> None:
    await fail(shared, "victim@example.com")
    assert len(valkey.held()) == 4
    assert not any("victim" in key or "@" in key for key in valkey.held())


async def test_memory_is_used_while_the_shared_storage_is_unavailable(
    shared: RateLimits, valkey: ValkeyServer, caplog: pytest.LogCaptureFixture
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


async def test_hit_in_memory_is_not_refunded_in_the_shared_storage(
    shared: RateLimits, valkey: ValkeyServer
) -> None:
    valkey.kill()
    async with shared.login_attempt("victim", HERE):
        valkey.start()
        shared._shared_retry_at = 0
    assert valkey.held() == []


async def test_restarted_storage_counts_at_once(
    shared: RateLimits, valkey: ValkeyServer, caplog: pytest.LogCaptureFixture
) -> None:
    await fail(shared)
    valkey.kill()
    valkey.start()
    await fail(shared)
    assert valkey.held()
    assert not caplog.records


async def test_refund_after_the_window_allows_no_extra_attempt(
    shared: RateLimits, valkey: ValkeyServer
) -> None:
    async with shared.login_attempt("victim", HERE):
        for key in valkey.held():  # simulates the end of their windows
            valkey.command("DEL", key)
    assert {valkey.command("GET", key) for key in valkey.held()} == {"$1\r\n0"}
    await fail(shared)
    await fail(shared)
    with pytest.raises(TooManyAttempts):
        await succeed(shared)


async def test_hit_in_the_shared_storage_is_not_refunded_in_memory(
    shared: RateLimits, valkey: ValkeyServer
) -> None:
    async with shared.login_attempt("victim", HERE):
        valkey.kill()
    await fail(shared)
    await fail(shared)
    with pytest.raises(TooManyAttempts):
        await fail(shared)


@pytest.mark.parametrize(
    "poison", [("SET", "many"), ("SET", "9" * 30), ("LPUSH", "x"), ("HSET", "x", "y")]
)
async def test_unexpected_values_in_the_shared_storage_do_no_harm(
    shared: RateLimits, valkey: ValkeyServer, poison: tuple[str, ...]
) -> None:
    await fail(shared)
    for key in valkey.held():
        valkey.command("DEL", key)
        valkey.command(poison[0], key, *poison[1:])
    await fail(shared)
    await fail(shared)
    with pytest.raises(TooManyAttempts):
        await fail(shared)


@pytest.mark.usefixtures("long_redis_timeout")
async def test_storage_with_an_unusable_url_option_counts_as_unavailable(
    valkey: ValkeyServer,
) -> None:
    # The Redis client rejects an unknown option only when it connects.
    url = f"{valkey.url}?unknown=1"
    subject = rate_limits(redis_url=url, limit_account_and_network="2/minute")
    assert not await subject.ping()
    await fail(subject)
    await fail(subject)
    with pytest.raises(TooManyAttempts):
        await fail(subject)


async def test_ping_leaves_no_connection(shared: RateLimits, valkey: ValkeyServer) -> None:
    assert await shared.ping()
    # `CLIENT LIST` returns only the connection that sends it.
    assert valkey.command("CLIENT", "LIST").count("addr=127.0.0.1") == 1 * 2  # laddr and addr
    assert not await rate_limits().ping()


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
def test_invalid_url_is_reported_in_one_line_without_the_password(url: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        rate_limits(redis_url=url)
    message = str(refusal.value)
    assert "AUTHAPI_REDIS_URL" in message
    assert "\n" not in message
    assert "hunter2" not in message
    assert refusal.value.__suppress_context__ or refusal.value.__context__ is None


async def test_one_network_cannot_lock_out_the_owner() -> None:
    subject = rate_limits()
    with travel_to(NOON) as clock:
        for _ in range(12 * 60):  # twelve hours of guesses, each minute as many as are allowed
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
def test_url_parts_that_the_library_ignores_are_rejected(url: str, reason: str) -> None:
    with pytest.raises(ConfigurationError, match="AUTHAPI_REDIS_URL") as refusal:
        rate_limits(redis_url=url)
    assert reason in str(refusal.value)
    assert "hunter2" not in str(refusal.value)
