"""A TCP proxy that can delay or drop traffic, and balances between services."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Self

from tests.servers.process import free_port


class Proxy:
    """Listens on `port` and forwards connections to the ports of `targets()`, round robin.

    Skips a target that refuses the connection.
    """

    def __init__(self, targets: Callable[[], list[int]]) -> None:
        self.port = free_port()
        self.delay = 0.0
        """Delay of each chunk in seconds, in both directions."""
        self.drops_responses = False
        """Whether connections are closed instead of forwarding a response to a request."""
        self.dropped = 0
        """Number of responses dropped this way."""
        self._targets = targets
        self.open = Counter[int]()
        """Open connections to each target."""
        self._next = 0
        self._is_open = asyncio.Event()
        self._is_open.set()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._server
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def black_hole(self) -> None:
        """From now on, accepts connections and forwards nothing."""
        self._is_open.clear()

    def restore(self) -> None:
        """Forwards traffic again, also what was held back, as after a network partition."""
        self.delay = 0.0
        self._is_open.set()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer):
            await self._is_open.wait()
            for _ in self._targets():
                targets = self._targets()
                self._next += 1
                target = targets[self._next % len(targets)]
                self.open[target] += 1
                try:
                    there, back = await asyncio.open_connection("127.0.0.1", target)
                    with contextlib.closing(back):
                        async with asyncio.TaskGroup() as group:
                            group.create_task(self._pass(reader, back))
                            group.create_task(self._pass(there, writer, is_response=True))
                except OSError:
                    continue
                finally:
                    self.open[target] -= 1
                return

    async def _pass(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, is_response: bool = False
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                if self.delay:
                    await asyncio.sleep(self.delay)
                await self._is_open.wait()
                if is_response and self.drops_responses:
                    self.dropped += 1
                    break
                sink.write(data)
                await sink.drain()
        with contextlib.suppress(OSError, RuntimeError):
            sink.write_eof()
