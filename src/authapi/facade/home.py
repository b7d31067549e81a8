"""The event loop on which the services of an application are open."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from os import getpid

from authapi.services import Services


class Home:
    """Opens services on one event loop at a time, and knows that loop."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self._loop: asyncio.AbstractEventLoop | None = None
        self._process = 0
        self._users = 0
        self._is_open = False
        self._opening = asyncio.Lock()

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The running event loop of this process on which the services are open, or None.

        A child process inherits the attributes of its parent, but not the thread of its loop.
        """
        loop = self._loop if self._process == getpid() else None
        return loop if loop is not None and loop.is_running() else None

    @property
    def is_here(self) -> bool:
        """Whether the services are open on the event loop of the caller."""
        return self.loop is not None and self.loop is asyncio.get_running_loop()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Notes that a lifespan has the services open. Raises RuntimeError if a script has."""
        if self._users and self.loop is not None:
            raise RuntimeError("auth.running() is open: end it before the application starts")
        self._enter()
        try:
            yield
        finally:
            self._loop = None

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Opens the services unless they are open on this loop, and closes what it has opened.

        Raises RuntimeError if they are open on another loop, and the errors of `Services.open`.
        """
        if self.loop is not None and not self.is_here:
            raise RuntimeError("authapi is open on another event loop of this process")
        if self.is_here and not self._users:  # a lifespan has them open
            yield
            return
        if self.loop is None:
            self._opening, self._users = asyncio.Lock(), 0
            self._enter()
        opening = self._opening
        self._users += 1
        try:
            async with opening:
                if not self._is_open:
                    await self.services.open()
                    self._is_open = True
            yield
        finally:
            self._users -= 1
            if not self._users:
                self._loop, self._is_open = None, False
                await self.services.stop()

    def _enter(self) -> None:
        self._loop, self._process, self._is_open = asyncio.get_running_loop(), getpid(), False
