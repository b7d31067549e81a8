"""A clock that is set back or ahead neither stalls the outbox nor makes it hurry."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta

import pytest
import time_machine

from authapi.clock import now
from authapi.errors import DeliveryFailed
from authapi.services import Services
from authapi.services.background.steady import SteadyClock
from tests.clocks import Monotonic, clock_is_set
from tests.services.background.test_outbox import Done, entries, opened, put
from tests.storage.cancelling import until

START = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)
SECOND, HOUR = timedelta(seconds=1), timedelta(hours=1)
JUMPS = [-HOUR, HOUR, -400 * 24 * HOUR, 400 * 24 * HOUR]

Clocks = tuple[time_machine.Traveller, Monotonic]


@pytest.fixture
def clocks() -> Iterator[Clocks]:
    with clock_is_set(START) as found:
        yield found


@pytest.fixture
async def services(clocks: Clocks, database_url: str) -> AsyncIterator[Services]:
    async with opened(database_url) as found:
        yield found


def pass_by(clocks: Clocks, seconds: float) -> None:
    """Time passes, in both clocks."""
    traveller, monotonic = clocks
    traveller.shift(seconds)
    monotonic.seconds += seconds


async def look(services: Services) -> int:
    """Look for what is due as the background does every two seconds; how many were begun."""
    begun = await services.outbox._deliveries["test"].begin(services.outbox._lease)
    await asyncio.gather(*begun)
    return len(begun)


def test_it_is_the_time_of_day_until_it_is_started_and_after_it_is_stopped(clocks: Clocks) -> None:
    steady = SteadyClock()
    assert steady.now() == now()
    steady.start()
    clocks[0].shift(HOUR)
    assert (steady.now(), steady.latest()) == (START, START + HOUR)
    steady.stop()
    assert steady.now() == START + HOUR


@pytest.mark.parametrize("jump", JUMPS)
def test_it_goes_on_where_the_clock_jumps(clocks: Clocks, jump: timedelta) -> None:
    steady = SteadyClock()
    steady.start()
    clocks[0].shift(jump)
    assert steady.now() == START
    pass_by(clocks, 100)
    assert abs(steady.now() - START - 100 * SECOND) <= 5 * SECOND


@pytest.mark.parametrize("jump", [-HOUR, HOUR])
def test_it_comes_back_to_the_time_of_day(clocks: Clocks, jump: timedelta) -> None:
    steady = SteadyClock()
    steady.start()
    clocks[0].shift(jump)
    last = steady.now()
    for _ in range(25):
        pass_by(clocks, 3600)
        assert steady.now() > last
        last = steady.now()
    assert last == now()


def test_a_clock_that_is_slewed_is_followed(clocks: Clocks) -> None:
    steady = SteadyClock()
    steady.start()
    for _ in range(10):
        pass_by(clocks, 10)
        clocks[0].shift(0.005)
        assert steady.now() == now()


@pytest.mark.parametrize("jump", JUMPS)
async def test_what_is_written_after_a_jump_is_done_at_once(
    clocks: Clocks, services: Services, jump: timedelta
) -> None:
    handler = Done()
    services.outbox.on("test", handler)
    services.outbox.start()
    before = await put(services)
    await until(lambda: handler.ids == [before])
    clocks[0].shift(jump)
    after = await put(services)
    await until(lambda: handler.ids == [before, after])


@pytest.mark.parametrize("jump", JUMPS)
async def test_a_pause_is_as_long_as_without_the_jump(
    clocks: Clocks, services: Services, jump: timedelta
) -> None:
    handler = Done(*[DeliveryFailed("away")] * 3)
    services.outbox.on("test", handler)
    services.outbox.start()
    key = await put(services)

    await until(lambda: handler.ids == [key])
    await services.outbox._deliveries["test"].ended()  # what came of it is written down
    clocks[0].shift(jump)
    assert await look(services) == 0, "its pause is not over"
    pass_by(clocks, 1.1)
    await look(services)
    await until(lambda: handler.ids == [key] * 2)
    await services.outbox._deliveries["test"].ended()
    pass_by(clocks, 1)
    assert await look(services) == 0
    pass_by(clocks, 1.2)
    await look(services)
    await until(lambda: handler.ids == [key] * 3)


@pytest.mark.parametrize("jump", JUMPS)
async def test_what_is_being_delivered_is_not_begun_again(
    clocks: Clocks, services: Services, jump: timedelta
) -> None:
    released = asyncio.Event()
    begun = 0

    async def hang(*_: object) -> None:
        nonlocal begun
        begun += 1
        await released.wait()

    services.outbox.on("test", hang)
    services.outbox.start()
    await put(services)
    await until(lambda: begun == 1)
    clocks[0].shift(jump)
    assert await look(services) == 0
    assert begun == 1
    released.set()
    await services.outbox.settle()


@pytest.mark.slow
async def test_what_a_process_with_a_clock_ahead_has_left_is_brought_forward(
    clocks: Clocks, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    traveller, _ = clocks
    handler = Done(DeliveryFailed("away"))
    async with opened(database_url) as ahead:
        ahead.outbox.on("test", handler)
        failing = await put(ahead)
        assert await ahead.outbox.work("test") == 1
        fresh = await put(ahead)
    traveller.shift(-400 * 24 * HOUR)
    async with opened(database_url) as later:
        later.outbox.on("test", handler)
        later.outbox.start()
        await until(lambda: handler.ids == [failing, fresh])
        await later.outbox._deliveries["test"].ended()
        [entry] = (await entries(later)).values()
        assert entry.id == failing
        lease = entry.due_at - now()
        assert SECOND < lease < 60 * SECOND, "it may be in the hands of another process"
        assert entry.expires_at - now() <= later.settings.mail_lifetime
        assert "put off by a clock that was ahead" in caplog.text
        pass_by(clocks, 60)
        await later.outbox.settle()
        assert handler.ids == [failing, fresh, failing]


async def test_what_waits_for_its_pause_stays(clocks: Clocks, database_url: str) -> None:
    handler = Done(*[DeliveryFailed("away")] * 12)
    async with opened(database_url) as first:
        first.outbox.on("test", handler)
        key = await put(first)
        for _ in range(12):
            assert await first.outbox.work("test") == 1
            due_at = (await entries(first))[key].due_at
            async with opened(database_url) as second:
                second.outbox.on("test", handler)
                await second.outbox.recall("test")
            assert (await entries(first))[key].due_at == due_at
            pass_by(clocks, (due_at - now()).total_seconds())
