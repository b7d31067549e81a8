"""Limits on guessing: by account, by network, and over all.

An attempt is counted before its password is looked at, so a hundred at once cost no more hashes
than ten in a row; one that succeeds is given back, and gives back nothing else. Nobody is locked
out: the tightest limit counts one account from one network, so its owner still gets in from another
(OWASP ASVS 6.1.1). Counters live in memory, or in Redis or Valkey where several processes share
them; while that is away, memory stands in, and limits never vanish.
"""

import hashlib
import ipaddress
import logging
import math
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from limits import RateLimitItem, parse
from limits.aio.storage import MemoryStorage, Storage
from limits.aio.strategies import FixedWindowRateLimiter
from limits.errors import StorageError
from limits.storage import storage_from_string

from authapi.errors import (
    ConfigurationError,
    Overloaded,
    StorageUnavailable,
    TooManyAttempts,
)
from authapi.identity import Client
from authapi.settings import Settings

_log = logging.getLogger(__name__)

_RETRY_SHARED_AFTER = 5.0
"""Seconds before a shared store that failed is asked again: each failure may cost a time-out."""
_SHARED_TIMEOUT = 0.5
"""Seconds that the shared store may take to answer."""


@dataclass(frozen=True, slots=True)
class _Counter:
    item: RateLimitItem
    key: tuple[str, ...]


class Throttle:
    """Counts attempts, and refuses what is too much."""

    def __init__(self, settings: Settings) -> None:
        self._account_and_network = parse(settings.limit_account_and_network)
        self._account = parse(settings.limit_account)
        self._network = parse(settings.limit_network)
        self._total = parse(settings.limit_total)
        self._registrations = parse(settings.limit_registrations)
        self._local = FixedWindowRateLimiter(MemoryStorage())
        self._shared = _shared_limiter(settings)
        self._shared_from = 0.0

    @asynccontextmanager
    async def attempt(self, account: str, client: Client) -> AsyncIterator[None]:
        """Around a check of a password: raises TooManyAttempts instead of entering the block.

        `account` is the canonical address, so that its spellings share one counter, whether there
        is such an account or not. The block keeps what it cost if it ends in InvalidCredentials or
        WrongPassword, or is abandoned; otherwise the attempt is given back.
        """
        digest = hashlib.sha256(account.encode()).hexdigest()
        network = network_of(client.ip)
        counters = [
            _Counter(self._account_and_network, ("login", digest, network)),
            _Counter(self._account, ("login", digest)),
            _Counter(self._network, ("login-from", network)),
            _Counter(self._total, ("login-total",)),
        ]
        await self._admit(counters)
        try:
            yield
        except (Overloaded, StorageUnavailable):
            await self._give_back(counters)
            raise
        else:
            await self._give_back(counters)

    async def registration(self, client: Client) -> None:
        """Count a registration. Raises TooManyAttempts."""
        network = network_of(client.ip)
        await self._admit(
            [
                _Counter(self._registrations, ("register", network)),
                _Counter(self._total, ("register-total",)),
            ]
        )

    async def ping(self) -> bool:
        """Whether the shared store answers."""
        if self._shared is None:
            return False
        try:
            return await self._shared.storage.check()
        except StorageError:
            return False

    async def _admit(self, counters: list[_Counter]) -> None:
        admitted: list[_Counter] = []
        for counter in counters:
            if not await self._hit(counter):
                # What was refused has cost nothing: it must not use up the other limits.
                await self._give_back(admitted)
                raise TooManyAttempts(retry_after=await self._wait(counter))
            admitted.append(counter)

    async def _hit(self, counter: _Counter) -> bool:
        shared = self._usable()
        if shared is not None:
            try:
                return await shared.hit(counter.item, *counter.key)
            except StorageError:
                self._set_aside()
        return await self._local.hit(counter.item, *counter.key)

    async def _give_back(self, counters: Iterable[_Counter]) -> None:
        limiter = self._usable() or self._local
        for counter in counters:
            try:
                await limiter.hit(counter.item, *counter.key, cost=-1)
            except StorageError:
                self._set_aside()
                return

    async def _wait(self, counter: _Counter) -> int:
        limiter = self._usable() or self._local
        try:
            stats = await limiter.get_window_stats(counter.item, *counter.key)
        except StorageError:
            return counter.item.get_expiry()
        return max(1, math.ceil(stats.reset_time - time.time()))

    def _usable(self) -> FixedWindowRateLimiter | None:
        return self._shared if time.monotonic() >= self._shared_from else None

    def _set_aside(self) -> None:
        self._shared_from = time.monotonic() + _RETRY_SHARED_AFTER
        _log.warning("the shared store of limits is away: counting in memory meanwhile")


def network_of(ip: str | None) -> str:
    """The network that an address is counted under: itself for IPv4, its /64 for IPv6.

    One customer has a whole /64, so each of its addresses would be a new visitor. What has no
    address shares one counter: no address must not mean no limit.
    """
    try:
        address = ipaddress.ip_address(ip or "")
    except ValueError:
        return "unknown"
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address.packed, 64), strict=False))
    return str(address)


def _shared_limiter(settings: Settings) -> FixedWindowRateLimiter | None:
    if settings.redis_url is None:
        return None
    try:
        storage = storage_from_string(
            f"async+{settings.redis_url.get_secret_value()}",
            implementation="redispy",
            wrap_exceptions=True,
            socket_timeout=_SHARED_TIMEOUT,
            socket_connect_timeout=_SHARED_TIMEOUT,
        )
    except Exception:
        # Whatever the library says of the URL may repeat its password.
        raise ConfigurationError("AUTHAPI_REDIS_URL cannot be used") from None
    if not isinstance(storage, Storage):
        raise ConfigurationError("AUTHAPI_REDIS_URL must begin with redis:// or rediss://")
    return FixedWindowRateLimiter(storage)
