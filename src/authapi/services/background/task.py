"""A task that runs beside the requests of a service."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any

_PATIENCE = 1.0
"""Seconds that `stop` waits for what is not to be cut in two."""


class BackgroundTask:
    """Runs `work()` from `start` to `stop`, under the name `authapi-<name>`.

    `work` never returns, and outlives what it can: nobody begins it again. What it does inside of
    `whole`, which is an asynchronous context manager, `stop` lets it finish if that takes no more
    than a second: a statement that is cancelled costs its connection.
    """

    def __init__(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._name = name
        self._work = work
        self._task: asyncio.Task[None] | None = None
        self.whole = asyncio.Lock()

    def start(self) -> None:
        """Begin, in the event loop that runs now."""
        self.whole = asyncio.Lock()  # it belongs to the loop that first waits for it
        self._task = asyncio.create_task(self._work(), name=f"authapi-{self._name}")

    async def stop(self) -> None:
        """Cancel the work and wait for its end; harmless if it never began.

        Raises what the work has ended with, if it had.
        """
        task, self._task = self._task, None
        if task is None or task.get_loop() is not asyncio.get_running_loop():
            return  # a loop that was closed has ended what ran in it
        try:
            if not task.done():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_PATIENCE):
                        await self.whole.acquire()
        finally:
            task.cancel()
            await asyncio.wait([task])
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error
