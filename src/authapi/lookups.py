"""Names of hosts become addresses, each host in a thread of its own.

`loop.getaddrinfo` runs in the default executor of asyncio, which has as few as five threads. A
lookup cannot be cancelled: while the name servers of one host do not answer, each attempt to reach
it would keep one of these threads for half a minute, until no other name is looked up.
"""

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future
from functools import partial
from ipaddress import ip_address
from typing import TypeVar

_STAGGER = 0.25
"""Seconds until the next address is tried as well (RFC 8305, section 5)."""

T = TypeVar("T")

_lock = threading.Lock()
_running: dict[str, Future[Sequence[str]]] = {}


async def addresses(host: str) -> Sequence[str]:
    """The addresses of `host`, in the order of the resolver (RFC 6724).

    Callers that ask for the same host at one time share one lookup, so that there are no more
    threads than hosts. There is no time limit: callers have theirs. Raises OSError.
    """
    if _is_address(host):
        return (host,)
    # A caller that is cancelled cancels its own future; a lookup that has begun goes on.
    return await asyncio.wrap_future(_lookup(host))


async def connected(
    host: str, connect: Callable[[str], Awaitable[T]], close: Callable[[T], Awaitable[None]]
) -> T:
    """The result of `connect` for the first address of `host` that takes the connection.

    The next address is tried when one has failed, and also beside one that has not answered for
    250 ms. A connection that comes too late is given to `close`. Raises OSError, or what `connect`
    raises for the last address.
    """
    waiting = list(await addresses(host))
    attempts: set[asyncio.Future[T]] = set()
    try:
        while True:
            if waiting:
                attempts.add(asyncio.ensure_future(connect(waiting.pop(0))))
            pause = _STAGGER if waiting else None
            await asyncio.wait(attempts, timeout=pause, return_when=asyncio.FIRST_COMPLETED)
            for attempt in [attempt for attempt in attempts if attempt.done()]:
                attempts.discard(attempt)
                if attempt.exception() is None or not (waiting or attempts):
                    return attempt.result()
    finally:
        for attempt in attempts:
            attempt.cancel()
        for late in await asyncio.gather(*attempts, return_exceptions=True):
            if not isinstance(late, BaseException):
                await close(late)


async def connected_socket(host: str, port: int) -> socket.socket:
    """A TCP socket that is connected to `host`. Raises OSError."""
    return await connected(host, partial(_socket, port=port), _close)


async def _socket(address: str, *, port: int) -> socket.socket:
    found = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    try:
        found.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(found, (address, port))
    except BaseException:
        found.close()
        raise
    return found


async def _close(late: socket.socket) -> None:
    late.close()


def _is_address(host: str) -> bool:
    try:
        ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def _lookup(host: str) -> Future[Sequence[str]]:
    with _lock:
        found = _running.get(host)
        if found is None:
            found = _running[host] = Future()
            found.set_running_or_notify_cancel()
            # Of a pool, or not a daemon, it would hold up the end of the process.
            thread = threading.Thread(target=_look_up, args=(host, found), daemon=True)
            thread.name = "authapi-lookup"
            try:
                thread.start()
            except RuntimeError as error:
                del _running[host]
                raise OSError("no thread to look up a name") from error
        return found


def _look_up(host: str, result: Future[Sequence[str]]) -> None:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        outcome: Sequence[str] | OSError = tuple(dict.fromkeys(str(it[4][0]) for it in found))
    except OSError as error:
        outcome = error
    except UnicodeError:
        outcome = OSError("not the name of a host")
    with _lock:
        del _running[host]
    if isinstance(outcome, OSError):
        result.set_exception(outcome)
    else:
        result.set_result(outcome)
