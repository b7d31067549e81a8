"""DNS lookups that do not delay one another, and connections to the addresses they return.

Each host is looked up in a thread of its own. `loop.getaddrinfo` uses the default executor of
asyncio, which may have only five threads, and a running lookup cannot be cancelled. If the name
servers of one host did not answer, each connection attempt would occupy one of these threads for
about 30 seconds, and soon no other name could be resolved.
"""

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future
from functools import partial
from ipaddress import ip_address
from typing import TypeVar

_ATTEMPT_DELAY = 0.25
"""Seconds until the next address is tried in parallel (RFC 8305, section 5)."""

T = TypeVar("T")

_lock = threading.Lock()
_running: dict[str, Future[Sequence[str]]] = {}


async def resolve_host(host: str) -> Sequence[str]:
    """The addresses of `host`, in the order of `getaddrinfo` (RFC 6724).

    Concurrent calls for the same host share one lookup, so there is at most one thread for each
    host. There is no time limit; callers set their own. Raises OSError if `host` cannot be resolved
    or no thread can be started.
    """
    if _is_address(host):
        return (host,)
    # A cancelled caller cancels only its own future; the lookup goes on.
    return await asyncio.wrap_future(_lookup(host))


async def connect_to_host(
    host: str, connect: Callable[[str], Awaitable[T]], close: Callable[[T], Awaitable[None]]
) -> T:
    """The result of `connect(address)` for the first address of `host` that accepts a connection.

    The next address is tried after a failure, or in parallel after 250 ms without a result (Happy
    Eyeballs, RFC 8305). `close` is called for each further connection that was established. Raises
    OSError if `host` cannot be resolved, and what `connect` raises for the last address if all
    addresses fail.
    """
    waiting = list(await resolve_host(host))
    attempts: set[asyncio.Future[T]] = set()
    try:
        while True:
            if waiting:
                attempts.add(asyncio.ensure_future(connect(waiting.pop(0))))
            delay = _ATTEMPT_DELAY if waiting else None
            await asyncio.wait(attempts, timeout=delay, return_when=asyncio.FIRST_COMPLETED)
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


async def connect_socket(host: str, port: int) -> socket.socket:
    """A non-blocking TCP socket connected to `host`. Raises OSError."""
    return await connect_to_host(host, partial(_connect_socket, port=port), _close_socket)


async def _connect_socket(address: str, *, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    connection = socket.socket(family, socket.SOCK_STREAM)
    try:
        connection.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(connection, (address, port))
    except BaseException:
        connection.close()
        raise
    return connection


async def _close_socket(connection: socket.socket) -> None:
    connection.close()


def _is_address(host: str) -> bool:
    try:
        ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def _lookup(host: str) -> Future[Sequence[str]]:
    with _lock:
        result = _running.get(host)
        if result is None:
            result = _running[host] = Future()
            result.set_running_or_notify_cancel()
            # A thread of a pool, or one that is not a daemon, would delay the exit of the process.
            thread = threading.Thread(target=_run_lookup, args=(host, result), daemon=True)
            thread.name = "authapi-lookup"
            try:
                thread.start()
            except RuntimeError as error:
                del _running[host]
                raise OSError("no thread to look up a name") from error
        return result


def _run_lookup(host: str, result: Future[Sequence[str]]) -> None:
    outcome: Sequence[str] | OSError
    try:
        infos = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        outcome = tuple(dict.fromkeys(str(address[0]) for *_, address in infos))
    except OSError as error:
        outcome = error
    except UnicodeError:
        outcome = OSError("not a valid host name")
    with _lock:
        del _running[host]
    if isinstance(outcome, OSError):
        result.set_exception(outcome)
    else:
        result.set_result(outcome)
