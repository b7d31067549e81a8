"""Cancels a task at its first await, its second, and so on."""

import asyncio
import types
from collections.abc import Callable, Collection, Coroutine, Generator
from typing import Any, TypeVar

T = TypeVar("T")


class Steps:
    """Counts the suspensions of a coroutine, and cancels it at the given ones."""

    def __init__(self, *cancel_at: int) -> None:
        self._cancel_at: Collection[int] = cancel_at
        self.taken = 0

    @property
    def is_cut(self) -> bool:
        """Whether the coroutine reached the first of them."""
        return bool(self._cancel_at) and self.taken >= min(self._cancel_at)

    async def run(self, work: Coroutine[Any, Any, T]) -> T | None:
        """Runs `work` in a new task. Returns its result, or None if it was cancelled."""
        task = asyncio.create_task(_driven(work, self))
        try:
            return await task
        except asyncio.CancelledError:
            if not task.cancelled():
                raise
            return None

    def suspended(self) -> None:
        """Called in the task of the coroutine when it is suspended."""
        self.taken += 1
        if self.taken in self._cancel_at:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()


async def _driven(work: Coroutine[Any, Any, T], steps: Steps) -> T:
    return await _stepped(work, steps)


@types.coroutine
def _stepped(work: Coroutine[Any, Any, T], steps: Steps) -> Generator[Any, Any, T]:
    value: Any = None
    error: BaseException | None = None
    while True:
        try:
            awaited = work.send(value) if error is None else work.throw(error)
        except StopIteration as end:
            result: T = end.value
            return result
        steps.suspended()
        value = error = None
        try:
            value = yield awaited
        except BaseException as raised:  # thrown into the coroutine
            error = raised


async def until(condition: Callable[[], bool]) -> None:
    """Waits until `condition` is true; fails after five seconds."""
    deadline = asyncio.get_running_loop().time() + 5
    while not condition():
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.001)
