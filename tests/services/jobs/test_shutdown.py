"""Closing several parts in order, also after a failure or a cancellation."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

import anyio
import pytest

from authapi.services.jobs.shutdown import close_after_failure, close_all

Close = Callable[[], Awaitable[None]]


class Parts:
    """Parts that record when they are closed."""

    def __init__(self) -> None:
        self.closed: list[str] = []

    def part(self, name: str, error: BaseException | None = None) -> Close:
        async def close() -> None:
            await asyncio.sleep(0)
            self.closed.append(name)
            if error is not None:
                raise error

        return close


async def test_the_parts_are_closed_in_order() -> None:
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


async def test_a_cancelled_part_does_not_keep_others_from_being_closed() -> None:
    parts = Parts()
    with pytest.raises(asyncio.CancelledError):
        await close_all(parts.part("a", asyncio.CancelledError()), parts.part("b"))
    assert parts.closed == ["a", "b"]


@pytest.mark.parametrize("times", [1, 2, 3])
async def test_a_cancelled_caller_waits_for_the_end(times: int) -> None:
    parts, go_on, begun = Parts(), asyncio.Event(), asyncio.Event()

    async def slow() -> None:
        begun.set()
        await go_on.wait()
        parts.closed.append("slow")

    closing = asyncio.create_task(close_all(slow, parts.part("b", OSError("logged"))))
    await begun.wait()
    for _ in range(times):
        closing.cancel()
        await asyncio.sleep(0)
    assert not closing.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert parts.closed == ["slow", "b"]


async def test_a_cancel_scope_waits_for_the_end_too() -> None:
    parts = Parts()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await close_all(parts.part("a"), parts.part("b"))
    assert scope.cancelled_caught
    assert parts.closed == ["a", "b"]


async def test_after_a_failure_the_error_of_closing_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    await close_after_failure(Parts().part("a", OSError("a full disk")))
    assert "a full disk" in caplog.text
