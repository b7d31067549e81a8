"""Cancels a task exactly where it waits: the first time that it is suspended, the second, ..."""

import asyncio
import types
from collections.abc import Callable, Collection, Coroutine, Generator
from typing import Any, TypeVar

T = TypeVar("T")


class Steps:
    """How often a coroutine has been suspended, and at which of these times it is cancelled."""

    def __init__(self, *cancel_at: int) -> None:
        self._cancel_at: Collection[int] = cancel_at
        self.taken = 0

    @property
    def is_cut(self) -> bool:
        """Whether it came as far as the first of them."""
        return bool(self._cancel_at) and self.taken >= min(self._cancel_at)

    async def run(self, work: Coroutine[Any, Any, T]) -> T | None:
        """What `work` returns, None if it was cancelled; in a task of its own."""
        task = asyncio.create_task(_driven(work, self))
        try:
            return await task
        except asyncio.CancelledError:
            if not task.cancelled():
                raise
            return None

    def suspended(self) -> None:
        """The coroutine waits; the task that runs it is the current one."""
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
        except BaseException as raised:  # the coroutine decides what it means
            error = raised


async def until(condition: Callable[[], bool]) -> None:
    """Return once `condition` holds, which takes no longer than five seconds."""
    deadline = asyncio.get_running_loop().time() + 5
    while not condition():
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.001)
