"""A result that is kept for a while, so that reloading a page does not compute it again."""

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Generic, TypeVar

T = TypeVar("T")


class Kept(Generic[T]):
    """The result of `compute`, at most `max_age` seconds after its computation began.

    Concurrent callers share one computation. An error is raised to all of them, and is not kept.
    """

    def __init__(self, compute: Callable[[], Awaitable[T]], *, max_age: float) -> None:
        self._compute = compute
        self._max_age = max_age
        self._task: asyncio.Task[T] | None = None
        self._begun = 0.0

    async def get(self) -> T:
        """Returns the result, and computes it if there is none that is recent."""
        task = self._task
        if task is None or not self._is_usable(task):
            self._begun = monotonic()
            task = self._task = asyncio.create_task(self._run())
        # A caller that is cancelled does not cancel the computation of the others.
        return await asyncio.shield(task)

    async def _run(self) -> T:
        return await self._compute()

    def _is_usable(self, task: asyncio.Task[T]) -> bool:
        # The services may be started again on another event loop.
        if task.get_loop() is not asyncio.get_running_loop():
            return False
        if task.done() and (task.cancelled() or task.exception() is not None):
            return False
        return monotonic() - self._begun <= self._max_age
