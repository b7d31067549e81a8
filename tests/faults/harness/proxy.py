"""A TCP proxy that can be slow, or swallow everything; and a balancer between two services."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Self

from tests.servers.process import free_port


class Proxy:
    """Stands on `port` and passes bytes on to one of the ports that `targets()` names, in turns.

    A target that refuses the connection is passed over, as any balancer would.
    """

    def __init__(self, targets: Callable[[], list[int]]) -> None:
        self.port = free_port()
        self.delay = 0.0
        """Seconds that each piece waits, in each direction."""
        self.loses_answers = False
        """Whether a connection is cut in place of an answer: the request has arrived."""
        self.lost = 0
        """How many answers were lost so."""
        self._targets = targets
        self.open = Counter[int]()
        """How many connections there are to each target."""
        self._turn = 0
        self._passes = asyncio.Event()
        self._passes.set()
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

    def swallow(self) -> None:
        """From now on connections are accepted and nothing comes through: a black hole."""
        self._passes.clear()

    def heal(self) -> None:
        """What was swallowed arrives after all, as after a partition."""
        self.delay = 0.0
        self._passes.set()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer):
            await self._passes.wait()
            for _ in self._targets():
                targets = self._targets()
                self._turn += 1
                target = targets[self._turn % len(targets)]
                self.open[target] += 1
                try:
                    there, back = await asyncio.open_connection("127.0.0.1", target)
                    with contextlib.closing(back):
                        async with asyncio.TaskGroup() as group:
                            group.create_task(self._pass(reader, back))
                            group.create_task(self._pass(there, writer, is_answer=True))
                except OSError:
                    continue
                finally:
                    self.open[target] -= 1
                return

    async def _pass(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, is_answer: bool = False
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                if self.delay:
                    await asyncio.sleep(self.delay)
                await self._passes.wait()
                if is_answer and self.loses_answers:
                    self.lost += 1
                    break
                sink.write(data)
                await sink.drain()
        with contextlib.suppress(OSError, RuntimeError):
            sink.write_eof()
