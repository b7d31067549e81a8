"""A task that runs beside the requests of a service."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any


class BackgroundTask:
    """Runs `work()` from `start` to `stop`, under the name `authapi-<name>`.

    `work` never returns, and outlives what it can: nobody begins it again.
    """

    def __init__(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._name = name
        self._work = work
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, in the event loop that runs now."""
        self._task = asyncio.create_task(self._work(), name=f"authapi-{self._name}")

    async def stop(self) -> None:
        """Cancel the work and wait for its end; harmless if it never began.

        Raises what the work has ended with, if it had.
        """
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
