"""A result that is kept for a while."""

import asyncio

import pytest

from authapi.services.monitoring import kept
from authapi.services.monitoring.kept import Kept


class Counter:
    """Counts its computations, each of which waits for the event loop once."""

    def __init__(self) -> None:
        self.calls = 0
        self.fails = False

    async def __call__(self) -> int:
        self.calls += 1
        await asyncio.sleep(0)
        if self.fails:
            raise LookupError
        return self.calls


async def test_concurrent_callers_share_a_computation() -> None:
    result = Kept(Counter(), max_age=60)
    assert set(await asyncio.gather(*(result.get() for _ in range(10)))) == {1}
    assert await result.get() == 1


async def test_a_result_ages(monkeypatch: pytest.MonkeyPatch) -> None:
    time = 1000.0
    monkeypatch.setattr(kept, "monotonic", lambda: time)
    result = Kept(Counter(), max_age=15)
    assert await result.get() == 1
    time += 15
    assert await result.get() == 1
    time += 0.1
    assert await result.get() == 2


async def test_an_error_is_not_kept() -> None:
    count = Counter()
    result = Kept(count, max_age=60)
    count.fails = True
    with pytest.raises(LookupError):
        await result.get()
    count.fails = False
    assert await result.get() == 2


async def test_a_cancelled_caller_does_not_cancel_the_others() -> None:
    result = Kept(Counter(), max_age=60)
    first, second = [asyncio.create_task(result.get()) for _ in range(2)]
    await asyncio.sleep(0)
    first.cancel()
    assert await second == 1


def test_another_event_loop_computes_again() -> None:
    result = Kept(Counter(), max_age=60)
    assert [asyncio.run(result.get()) for _ in range(2)] == [1, 2]
