"""Storage backends for the counters of `rate_limits`: memory, and Redis or Valkey.

`MemoryRateLimitStorage` replaces the memory storage of `limits`, which visits all its keys after
each hit, on the event loop: with counters of 100,000 accounts, each login took 0.2 seconds longer.
This one removes expired counters only when the table has doubled, so the cost of a hit does not
depend on the number of counters.

Windows in memory are measured by the monotonic clock: a change of the system time neither extends
nor ends a window.
"""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Any
from urllib.parse import parse_qs, urlsplit

from limits.aio.storage import RedisStorage, Storage
from limits.storage import storage_from_string

from authapi.clock import now as clock_now
from authapi.errors import ConfigurationError
from authapi.name_resolution import connect_socket
from authapi.settings import Settings

_MIN_SWEEP_SIZE = 1024
"""Number of counters below which expired ones are not removed."""
_REDIS_TIMEOUT = 0.5
"""Seconds to connect to Redis, and to wait for each answer."""


class MemoryRateLimitStorage(Storage):
    """Fixed-window counters in the memory of this process."""

    def __init__(self) -> None:
        super().__init__()
        self._counters: dict[str, tuple[int, float]] = {}
        """The count, and the monotonic second at which the window ends."""
        self._sweep_size = _MIN_SWEEP_SIZE

    async def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        now = monotonic()
        count, window_end = self._read(key, now)
        if count == 0:
            window_end = now + expiry
        count += amount
        if count <= 0:
            # All hits were refunded. A counter of 0 is not kept, and none falls below 0.
            self._counters.pop(key, None)
            return 0
        self._counters[key] = (count, window_end)
        if len(self._counters) > self._sweep_size:
            self._sweep(now)
        return count

    async def get(self, key: str) -> int:
        return self._read(key, monotonic())[0]

    async def get_expiry(self, key: str) -> float:
        # The interface of `limits` expects Unix time.
        now = monotonic()
        count, window_end = self._read(key, now)
        return clock_now().timestamp() + (window_end - now if count else 0.0)

    async def clear(self, key: str) -> None:
        self._counters.pop(key, None)

    async def reset(self) -> int:
        number = len(self._counters)
        self._counters.clear()
        return number

    async def check(self) -> bool:
        return True

    @property
    def base_exceptions(self) -> tuple[type[Exception], ...]:
        return ()

    def _read(self, key: str, now: float) -> tuple[int, float]:
        count, window_end = self._counters.get(key, (0, now))
        return (count, window_end) if window_end > now else (0, now)

    def _sweep(self, now: float) -> None:
        self._counters = {key: entry for key, entry in self._counters.items() if entry[1] > now}
        self._sweep_size = max(_MIN_SWEEP_SIZE, 2 * len(self._counters))


def redis_storage(settings: Settings) -> RedisStorage | None:
    """The storage at `redis_url`, not connected yet; None if the setting is not set.

    Connections belong to the event loop that opens them. Raises ConfigurationError if the URL
    cannot be used or the extra `redis` is not installed; the message does not contain the URL,
    which may hold a password.
    """
    if settings.redis_url is None:
        return None
    url = settings.redis_url.get_secret_value()
    try:
        from redis.asyncio.retry import Retry  # noqa: PLC0415  # an optional dependency
        from redis.backoff import NoBackoff  # noqa: PLC0415
        from redis.exceptions import ConnectionError as RedisConnectionError  # noqa: PLC0415

        storage = storage_from_string(
            f"async+{url}",
            implementation="redispy",
            wrap_exceptions=True,
            socket_timeout=_REDIS_TIMEOUT,
            socket_connect_timeout=_REDIS_TIMEOUT,
            # After a restart of Redis, pooled connections are dead while Redis is available: one
            # retry opens a new connection. A command that timed out is not retried.
            retry=Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),  # type: ignore[arg-type]  # for redis
            # redis 5 retries only the errors that are named here too.
            retry_on_error=[RedisConnectionError],  # type: ignore[arg-type]  # for redis
        )
    except Exception:
        # The messages of the library may repeat the URL, and with it the password.
        raise ConfigurationError(
            "AUTHAPI_REDIS_URL cannot be used: it takes redis://host:port/0 or rediss://, and the "
            "extra fastapi-authapi[redis]"
        ) from None
    if not isinstance(storage, RedisStorage):
        raise ConfigurationError("AUTHAPI_REDIS_URL must begin with redis:// or rediss://")
    if problem := _url_problem(url):
        raise ConfigurationError(f"AUTHAPI_REDIS_URL {problem}")
    pool = storage.bridge.get_connection().connection_pool  # type: ignore[attr-defined]  # limits
    pool.connection_class = _with_own_name_resolution(pool.connection_class)
    return storage


@dataclass(frozen=True, slots=True)
class RedisServer:
    """What a server says about itself."""

    version: str
    """Its name and version."""
    policy: str
    """What it does when its memory is full; empty if it does not tell."""


async def describe_redis(settings: Settings) -> RedisServer | None:
    """Returns what the server at `redis_url` says about itself; None if it does not answer.

    Raises ConfigurationError as `redis_storage` does.
    """
    storage = redis_storage(settings)
    if storage is None:
        return None
    try:
        connection = storage.bridge.get_connection()  # type: ignore[attr-defined]  # limits
        info: Mapping[str, object] = await connection.info()
    except Exception:
        return None  # also a role that may not ask
    finally:
        await close_redis(storage)
    name = str(info.get("server_name") or "redis").capitalize()
    version = info.get("valkey_version") or info.get("redis_version")
    return RedisServer(f"{name} {version}", str(info.get("maxmemory_policy", "")))


async def close_redis(storage: RedisStorage) -> None:
    """Closes the connections of `storage`."""
    await storage.bridge.get_connection().aclose()  # type: ignore[attr-defined]  # limits


def _with_own_name_resolution(connection_class: type[Any]) -> type[Any]:
    """A subclass of redis-py's `connection_class` that connects with `name_resolution`.

    redis-py looks names up in the default executor of asyncio, whose few threads other work shares.
    """
    from redis.asyncio import Connection  # noqa: PLC0415  # an optional dependency

    if not issubclass(connection_class, Connection):
        return connection_class  # connects to a Unix socket

    class ResolvedConnection(connection_class):  # type: ignore[misc]  # known at run time
        async def _connect(self) -> None:
            async with asyncio.timeout(self.socket_connect_timeout):
                self._connected_socket = await connect_socket(self.host, self.port)
                await super()._connect()

        def _connection_arguments(self) -> Mapping[str, object]:
            arguments: dict[str, object] = {**super()._connection_arguments()}
            arguments["sock"] = self._connected_socket
            del arguments["host"], arguments["port"]
            # Given a socket, asyncio does not know the host name to check the certificate against.
            return (
                {**arguments, "server_hostname": self.host} if arguments.get("ssl") else arguments
            )

    return ResolvedConnection


def _url_problem(url: str) -> str | None:
    """What redis-py would silently ignore in `url`, and how to write it; None if nothing."""
    parts = urlsplit(url)
    if not parts.hostname or parts.fragment:
        return (
            "must name a host: redis://user:password@host:6379/0; in a password, @ / ? # are"
            " written %40 %2F %3F %23"
        )
    if not re.fullmatch("/?|/[0-9]+", parts.path):
        return "must end with the number of a database: redis://host:6379/0"
    if ignored := {name.lower() for name in parse_qs(parts.query)} & {"ssl", "tls", "sslmode"}:
        return f"has the parameter {min(ignored)}: write rediss:// for TLS"
    return None
