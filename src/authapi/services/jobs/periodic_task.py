"""An asyncio task that repeats its work from the start of a service to its shutdown.

A library of schedulers would add a store of jobs and a shutdown of its own, for a few loops.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

_GRACE = 1.0
"""Seconds that `stop` waits for an `uninterrupted` block before it cancels the task."""
_CANCEL_AGAIN = 2.0
"""Seconds after which `stop` cancels a task again, longer than the `finally` blocks of a run."""


class PeriodicTask:
    """Runs `work()` from `start` to `stop`, in a task named `authapi-<name>`.

    Between the end of a run and the next one are `interval` seconds. They end early when `wakeup`
    is set, which the task then clears. The first run follows after such a pause, or at once with
    `at_once`. An error of a run is passed to `on_error`, which logs it, and the next run follows as
    usual.

    `stop` lets a block inside of `uninterrupted`, an asynchronous context manager, finish if that
    takes a second at most. Statements belong into such a block, as a cancelled statement costs its
    database connection.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[], Awaitable[None]],
        *,
        interval: float,
        on_error: Callable[[Exception], None],
        at_once: bool = False,
        wakeup: asyncio.Event | None = None,
    ) -> None:
        self._name = name
        self._work = work
        self._interval = interval
        self._on_error = on_error
        self._at_once = at_once
        self._wakeup = wakeup
        self._task: asyncio.Task[None] | None = None
        self.uninterrupted = asyncio.Lock()

    def start(self) -> None:
        """Starts the task in the running event loop."""
        self.uninterrupted = asyncio.Lock()  # a lock belongs to the loop that first waits for it
        self._task = asyncio.create_task(self._run(), name=f"authapi-{self._name}")

    async def stop(self) -> None:
        """Cancels the task and waits for its end. Does nothing if the task was never started.

        Raises the error that ended the task, if there was one: no `Exception` of `work`.
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
            # A cancellation that arrives together with a result can be lost: `asyncio.wait_for` of
            # Python 3.11 loses it, and psycopg 3.3.0 waits for each response with that.
            while not task.done():
                task.cancel()
                await asyncio.wait([task], timeout=_CANCEL_AGAIN)
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error

    async def _run(self) -> None:
        if not self._at_once:
            await self._pause()
        while self._task is asyncio.current_task():  # until `stop`
            try:
                await self._work()
            except Exception as error:
                self._on_error(error)  # nothing restarts the task: it must go on
            if self._task is asyncio.current_task():
                await self._pause()

    async def _pause(self) -> None:
        if self._wakeup is None:
            await asyncio.sleep(self._interval)
            return
        # Not `wait_for`, which loses a cancellation that arrives together with the event.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._interval):
                await self._wakeup.wait()
        self._wakeup.clear()
