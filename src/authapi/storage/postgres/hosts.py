"""Connections to the first of several hosts that accepts them, also while one host is silent.

libpq tries the hosts of a list in turn. A host whose server does not respond, because it is frozen
or its network is gone, delays each connection by the whole `connect_timeout`, and the hosts that
have refused before it are not asked again. Here each host is asked while the others are waited for,
and again after it has refused, as a standby does until it is promoted.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from itertools import cycle
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from psycopg import AsyncConnection

_HEAD_START = 0.25
"""Seconds that a host has before the next one is asked, and until a host is asked again."""
_DEFAULT_TIMEOUT = 10.0
"""Seconds for all attempts if the URL has no `connect_timeout`."""
SILENCE = 1.0
"""Seconds without a response to a trivial statement after which a server counts as silent, if there
are several hosts."""

Connecting = Callable[..., "Awaitable[AsyncConnection]"]


def hosts_of(arguments: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Returns the arguments for each host of a connection, which has one host or several."""
    names = str(arguments.get("host") or "").split(",")
    if len(names) == 1 or "hostaddr" in arguments or "load_balance_hosts" in arguments:
        return [arguments]
    ports = str(arguments.get("port") or "").split(",")
    ports = ports * len(names) if len(ports) == 1 else ports
    return [
        {**arguments, "host": name, "port": port or None}
        for name, port in zip(names, ports, strict=True)
    ]


async def connect_first(
    connecting: Connecting, conninfo: str, arguments: Mapping[str, Any]
) -> "AsyncConnection":
    """Opens a connection to the first host that accepts it.

    The hosts are asked in their order, each a quarter of a second after the one before, or as soon
    as that has refused. A host that has refused is asked again while another one is silent. Raises
    the last refusal if all hosts have refused, or as libpq does at the end of `connect_timeout`.
    """
    hosts = hosts_of(arguments)
    if len(hosts) == 1:
        return await connecting(conninfo, **arguments)
    attempts = _Attempts(connecting, conninfo, hosts)
    try:
        async with asyncio.timeout(_timeout_of(arguments)):
            return await attempts.first()
    except TimeoutError:
        raise attempts.refusal or _timeout_error() from None
    finally:
        await attempts.cancel()


def _timeout_of(arguments: Mapping[str, Any]) -> float | None:
    # As libpq: zero and negative numbers mean no limit. It refuses other words at each attempt.
    try:
        seconds = float(arguments.get("connect_timeout") or _DEFAULT_TIMEOUT)
    except ValueError:
        return _DEFAULT_TIMEOUT
    return seconds if seconds > 0 else None


def _timeout_error() -> Exception:
    from psycopg.errors import ConnectionTimeout  # noqa: PLC0415  # an extra

    return ConnectionTimeout("no host responds")


class _Attempts:
    def __init__(
        self, connecting: Connecting, conninfo: str, hosts: Sequence[Mapping[str, Any]]
    ) -> None:
        self._connecting, self._conninfo = connecting, conninfo
        self._hosts, self._count = hosts, len(hosts)
        self._turns = cycle(range(len(hosts)))
        self._running: dict[asyncio.Task[AsyncConnection], int] = {}
        self._refused = set[int]()
        self.refusal: Exception | None = None
        """The last one."""

    async def first(self) -> "AsyncConnection":
        while True:
            self._start_next()
            done, _ = await asyncio.wait(
                self._running, timeout=_HEAD_START, return_when=asyncio.FIRST_COMPLETED
            )
            has_refusal = False
            for task in done:
                index = self._running.pop(task)
                error = task.exception()
                if error is None:
                    return task.result()
                if not isinstance(error, Exception):
                    raise error
                self.refusal, has_refusal = error, True
                self._refused.add(index)
            if len(self._refused) == self._count and not self._running and self.refusal:
                raise self.refusal
            if has_refusal and len(self._refused | set(self._running.values())) == self._count:
                await asyncio.sleep(_HEAD_START)  # each host was asked: not again at once

    def _start_next(self) -> None:
        for _ in range(self._count):
            index = next(self._turns)
            if index not in self._running.values():
                opening = self._connecting(self._conninfo, **self._hosts[index])
                self._running[asyncio.ensure_future(opening)] = index
                return

    async def cancel(self) -> None:
        """Ends the attempts that still run, and closes what they have opened meanwhile."""
        for task in self._running:
            task.cancel()
        for task in self._running:
            with suppress(asyncio.CancelledError, Exception):
                await (await task).close()
