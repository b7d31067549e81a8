"""An asyncio task that runs from the start of a service to its shutdown."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any

_GRACE = 1.0
"""Seconds that `stop` waits for an `uninterrupted` block before it cancels the task."""


class PeriodicTask:
    """Runs `work()` from `start` to `stop`, in a task named `authapi-<name>`.

    `work` must not return, and must handle the errors that it can survive: nothing restarts it.
    `stop` lets a block inside of `uninterrupted`, an asynchronous context manager, finish if that
    takes a second at most. Statements belong into such a block, as a cancelled statement costs its
    database connection.
    """

    def __init__(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._name = name
        self._work = work
        self._task: asyncio.Task[None] | None = None
        self.uninterrupted = asyncio.Lock()

    def start(self) -> None:
        """Starts the task in the running event loop."""
        self.uninterrupted = asyncio.Lock()  # a lock belongs to the loop that first waits for it
        self._task = asyncio.create_task(self._work(), name=f"authapi-{self._name}")

    async def stop(self) -> None:
        """Cancels the task and waits for its end. Does nothing if the task was never started.

        Raises the error that ended `work`, if there was one.
        """
        task, self._task = self._task, None
        if task is None or task.get_loop() is not asyncio.get_running_loop():
            return  # the task ended with its event loop, which is closed
        try:
            if not task.done():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_GRACE):
                        await self.uninterrupted.acquire()
        finally:
            task.cancel()
            await asyncio.wait([task])
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error
