"""Closing several parts: all of them, in order, also after a failure or a cancellation."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

import anyio
import pytest

from authapi.services.background.closing import close_after_failure, close_all

Close = Callable[[], Awaitable[None]]


class Parts:
    """Parts that note when they are closed."""

    def __init__(self) -> None:
        self.closed: list[str] = []

    def part(self, name: str, error: BaseException | None = None) -> Close:
        async def close() -> None:
            await asyncio.sleep(0)
            self.closed.append(name)
            if error is not None:
                raise error

        return close


async def test_each_is_closed_in_turn() -> None:
    parts = Parts()
    await close_all(*(parts.part(name) for name in "abc"))
    assert parts.closed == ["a", "b", "c"]
    await close_all()


async def test_the_others_are_closed_and_the_first_error_is_raised(
    caplog: pytest.LogCaptureFixture,
) -> None:
    parts = Parts()
    with pytest.raises(OSError, match="first"):
        await close_all(
            parts.part("a"),
            parts.part("b", OSError("first")),
            parts.part("c", ValueError("second")),
            parts.part("d"),
        )
    assert parts.closed == ["a", "b", "c", "d"]
    [line] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "second" in str(line.exc_info)


async def test_a_part_that_is_cancelled_keeps_none_from_being_closed() -> None:
    parts = Parts()
    with pytest.raises(asyncio.CancelledError):
        await close_all(parts.part("a", asyncio.CancelledError()), parts.part("b"))
    assert parts.closed == ["a", "b"]


@pytest.mark.parametrize("times", [1, 2, 3])
async def test_a_caller_that_is_cancelled_waits_for_the_end(times: int) -> None:
    parts, go_on, begun = Parts(), asyncio.Event(), asyncio.Event()

    async def slow() -> None:
        begun.set()
        await go_on.wait()
        parts.closed.append("slow")

    closing = asyncio.create_task(close_all(slow, parts.part("b", OSError("told in the log"))))
    await begun.wait()
    for _ in range(times):
        closing.cancel()
        await asyncio.sleep(0)
    assert not closing.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert parts.closed == ["slow", "b"]


async def test_a_scope_that_cancels_again_and_again_waits_too() -> None:
    parts = Parts()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await close_all(parts.part("a"), parts.part("b"))
    assert scope.cancelled_caught
    assert parts.closed == ["a", "b"]


async def test_after_a_failure_the_error_of_closing_goes_into_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    await close_after_failure(Parts().part("a", OSError("a full disk")))
    assert "a full disk" in caplog.text
