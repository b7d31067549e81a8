"""Calls of the services from code without an event loop.

If the application is running in this process, the services run on its event loop, with its pool
and its identity cache. Otherwise a thread of this module has a loop and services of its own. They
belong to one process: a child that was forked begins anew.
"""

import asyncio
import atexit
import os
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from threading import Lock, Thread
from typing import Any, TypeVar
from weakref import WeakSet

from authapi.facade.home import Home
from authapi.services import Services
from authapi.storage import CallerThread

T = TypeVar("T")

_CLOSE_TIMEOUT = 10.0
"""Seconds."""
_instances: "WeakSet[ServiceThread]" = WeakSet()


@dataclass(frozen=True, slots=True)
class Target:
    """Services, and the event loop on which they are open."""

    services: Services
    loop: asyncio.AbstractEventLoop

    def run(
        self, work: Callable[[Services], Coroutine[Any, Any, T]], caller: CallerThread | None = None
    ) -> T:
        """Runs `work` on the loop, in the context of the caller; waits, and returns its result.

        Raises RuntimeError on an event loop, and if the loop of the services ends, and the errors
        of `work`.
        """
        refuse_on_loop()
        answer: Future[T] = asyncio.run_coroutine_threadsafe(work(self.services), self.loop)
        try:
            return (caller or CallerThread()).serve(answer, self.loop.is_running)
        except BaseException:
            answer.cancel()
            raise


class ServiceThread:
    """Finds or starts the services for synchronous callers. `build` makes services for a thread."""

    def __init__(self, home: Home, build: Callable[[], Services]) -> None:
        self._home = home
        self._build = build
        self._lock = Lock()
        self._own: Target | None = None
        self._process = os.getpid()
        self._inherited: list[Target] = []
        _instances.add(self)

    def target(self) -> Target:
        """Returns the services to use, and starts them if necessary.

        Raises RuntimeError on an event loop, and the errors of `Services.open`.
        """
        refuse_on_loop()
        loop = self._home.loop
        if loop is not None:
            return Target(self._home.services, loop)
        with self._lock:
            if self._own is None:
                self._own = self._start()
            return self._own

    def serving_target(self) -> Target:
        """Returns the services of the running application.

        Raises RuntimeError on an event loop, or if no application is running in this process.
        """
        refuse_on_loop()
        loop = self._home.loop
        if loop is None:
            raise RuntimeError("authapi is not started: run the application's lifespan")
        return Target(self._home.services, loop)

    def close(self) -> None:
        """Closes the services of this thread, if there are any. A later call starts them again."""
        with self._lock:
            own, self._own = self._own, None
        if own is None or not own.loop.is_running():
            return
        stopping = asyncio.run_coroutine_threadsafe(own.services.stop(), own.loop)
        try:
            stopping.result(_CLOSE_TIMEOUT)
        finally:
            own.loop.call_soon_threadsafe(own.loop.stop)

    def _start(self) -> Target:
        loop = asyncio.new_event_loop()
        Thread(target=_run, args=(loop,), name="authapi-sync", daemon=True).start()
        services = self._build()
        try:
            asyncio.run_coroutine_threadsafe(services.open(), loop).result()
        except BaseException:
            with suppress(Exception):
                asyncio.run_coroutine_threadsafe(services.stop(), loop).result(_CLOSE_TIMEOUT)
            loop.call_soon_threadsafe(loop.stop)
            raise
        return Target(services, loop)

    def forget(self) -> None:
        """Drops what the parent process owns, without closing its connections."""
        if self._own is not None:
            self._inherited.append(self._own)
        self._lock, self._own = Lock(), None


def refuse_on_loop() -> None:
    """Raises RuntimeError if this thread runs an event loop, which the call would block."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError("auth.sync blocks its thread: in `async def`, await auth.accounts instead")


def _run(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    loop.run_forever()
    loop.close()


def _forget_all() -> None:
    for instance in list(_instances):
        instance.forget()


def _close_all() -> None:
    for instance in list(_instances):
        with suppress(Exception):  # the interpreter is ending, and the server drops the connections
            instance.close()


os.register_at_fork(after_in_child=_forget_all)
atexit.register(_close_all)
