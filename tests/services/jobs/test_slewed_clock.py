"""A system clock that is set back or ahead neither delays the outbox nor makes it run early."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta

import pytest
import time_machine

from authapi.clock import now
from authapi.errors import DeliveryFailed
from authapi.services import Services
from authapi.services.jobs.slewed_clock import SlewedClock
from tests.clocks import MonotonicClock, set_system_clock
from tests.services.jobs.test_outbox import RecordingHandler, enqueue, entries, open_services
from tests.storage.cancelling import until

START = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)
SECOND, HOUR = timedelta(seconds=1), timedelta(hours=1)
JUMPS = [-HOUR, HOUR, -400 * 24 * HOUR, 400 * 24 * HOUR]

Clocks = tuple[time_machine.Traveller, MonotonicClock]


@pytest.fixture
def clocks() -> Iterator[Clocks]:
    with set_system_clock(START) as found:
        yield found


@pytest.fixture
async def services(clocks: Clocks, database_url: str) -> AsyncIterator[Services]:
    async with open_services(database_url) as found:
        yield found


def advance(clocks: Clocks, seconds: float) -> None:
    """Advances both clocks."""
    traveller, monotonic = clocks
    traveller.shift(seconds)
    monotonic.seconds += seconds


async def start_due(services: Services) -> int:
    """Delivers due entries as a worker does every two seconds. Returns how many it started."""
    started = await services.outbox._deliveries["test"].start_due(services.outbox._lease)
    await asyncio.gather(*started)
    return len(started)


def test_it_reads_the_system_clock_before_start_and_after_stop(clocks: Clocks) -> None:
    clock = SlewedClock()
    assert clock.now() == now()
    clock.start()
    clocks[0].shift(HOUR)
    assert (clock.now(), clock.latest()) == (START, START + HOUR)
    clock.stop()
    assert clock.now() == START + HOUR


@pytest.mark.parametrize("jump", JUMPS)
def test_it_does_not_jump_with_the_system_clock(clocks: Clocks, jump: timedelta) -> None:
    clock = SlewedClock()
    clock.start()
    clocks[0].shift(jump)
    assert clock.now() == START
    advance(clocks, 100)
    assert abs(clock.now() - START - 100 * SECOND) <= 5 * SECOND


@pytest.mark.parametrize("jump", [-HOUR, HOUR])
def test_it_returns_to_the_system_clock(clocks: Clocks, jump: timedelta) -> None:
    clock = SlewedClock()
    clock.start()
    clocks[0].shift(jump)
    last = clock.now()
    for _ in range(25):
        advance(clocks, 3600)
        assert clock.now() > last
        last = clock.now()
    assert last == now()


def test_it_follows_a_system_clock_that_is_slewed(clocks: Clocks) -> None:
    clock = SlewedClock()
    clock.start()
    for _ in range(10):
        advance(clocks, 10)
        clocks[0].shift(0.005)
        assert clock.now() == now()


@pytest.mark.parametrize("jump", JUMPS)
async def test_an_entry_queued_after_a_jump_is_delivered_at_once(
    clocks: Clocks, services: Services, jump: timedelta
) -> None:
    handler = RecordingHandler()
    services.outbox.register("test", handler)
    services.outbox.start()
    before = await enqueue(services)
    await until(lambda: handler.ids == [before])
    clocks[0].shift(jump)
    after = await enqueue(services)
    await until(lambda: handler.ids == [before, after])


@pytest.mark.parametrize("jump", JUMPS)
async def test_a_retry_delay_is_as_long_as_without_the_jump(
    clocks: Clocks, services: Services, jump: timedelta
) -> None:
    handler = RecordingHandler(*[DeliveryFailed("away")] * 3)
    services.outbox.register("test", handler)
    services.outbox.start()
    key = await enqueue(services)

    await until(lambda: handler.ids == [key])
    await services.outbox._deliveries["test"].wait()  # its result is stored
    clocks[0].shift(jump)
    assert await start_due(services) == 0, "its retry delay has not passed"
    advance(clocks, 1.1)
    await start_due(services)
    await until(lambda: handler.ids == [key] * 2)
    await services.outbox._deliveries["test"].wait()
    advance(clocks, 1)
    assert await start_due(services) == 0
    advance(clocks, 1.2)
    await start_due(services)
    await until(lambda: handler.ids == [key] * 3)


@pytest.mark.parametrize("jump", JUMPS)
async def test_an_entry_in_progress_is_not_delivered_again(
    clocks: Clocks, services: Services, jump: timedelta
) -> None:
    released = asyncio.Event()
    started = 0

    async def hang(*_: object) -> None:
        nonlocal started
        started += 1
        await released.wait()

    services.outbox.register("test", hang)
    services.outbox.start()
    await enqueue(services)
    await until(lambda: started == 1)
    clocks[0].shift(jump)
    assert await start_due(services) == 0
    assert started == 1
    released.set()
    await services.outbox.drain()


@pytest.mark.slow
async def test_due_times_of_a_process_with_a_clock_ahead_are_corrected(
    clocks: Clocks, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    traveller, _ = clocks
    handler = RecordingHandler(DeliveryFailed("away"))
    async with open_services(database_url) as ahead:
        ahead.outbox.register("test", handler)
        failing = await enqueue(ahead)
        assert await ahead.outbox.run_due("test") == 1
        fresh = await enqueue(ahead)
    traveller.shift(-400 * 24 * HOUR)
    async with open_services(database_url) as later:
        later.outbox.register("test", handler)
        later.outbox.start()
        await until(lambda: handler.ids == [failing, fresh])
        await later.outbox._deliveries["test"].wait()
        [entry] = (await entries(later)).values()
        assert entry.id == failing
        lease = entry.due_at - now()
        assert SECOND < lease < 60 * SECOND, "another process may be delivering it"
        assert entry.expires_at - now() <= later.settings.mail_lifetime
        assert "corrected due times set by a clock that was ahead" in caplog.text
        advance(clocks, 60)
        await later.outbox.drain()
        assert handler.ids == [failing, fresh, failing]


async def test_the_due_time_of_a_retry_is_not_corrected(clocks: Clocks, database_url: str) -> None:
    handler = RecordingHandler(*[DeliveryFailed("away")] * 12)
    async with open_services(database_url) as first:
        first.outbox.register("test", handler)
        key = await enqueue(first)
        for _ in range(12):
            assert await first.outbox.run_due("test") == 1
            due_at = (await entries(first))[key].due_at
            async with open_services(database_url) as second:
                second.outbox.register("test", handler)
                await second.outbox.bring_forward("test")
            assert (await entries(first))[key].due_at == due_at
            advance(clocks, (due_at - now()).total_seconds())
