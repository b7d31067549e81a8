"""Limits on guessing: by account, by network, and over all.

An attempt is counted before its password is looked at, so a hundred at once cost no more hashes
than ten in a row; one that succeeds is given back, and gives back nothing else. Nobody is locked
out: the tightest limit counts one account from one network, so its owner still gets in from
another; those that add up networks do not count at home, which is where the account was logged in
to lately; and guesses at the password of somebody who is logged in count apart (OWASP ASVS 6.1.1).
Counters live in memory, or in Redis or Valkey where several processes share them; while that is
away, memory stands in, and limits never vanish.
"""

import asyncio
import hashlib
import logging
import math
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

from limits import RateLimitItem, RateLimitItemPerSecond, parse, parse_many
from limits.aio.storage import RedisStorage
from limits.aio.strategies import FixedWindowRateLimiter
from limits.storage import storage_from_string

from authapi.clock import now
from authapi.errors import (
    ConfigurationError,
    Overloaded,
    StorageUnavailable,
    TooManyAttempts,
    TooManyRequests,
)
from authapi.identity import Client
from authapi.lookups import connected_socket
from authapi.services.background.closing import to_its_end
from authapi.services.counters import MemoryCounters
from authapi.settings import Settings

_log = logging.getLogger(__name__)

_RETRY_SHARED_AFTER = 5.0
"""Seconds before a shared store that failed is asked again: each failure may cost a time-out."""
_SHARED_TIMEOUT = 0.5
"""Seconds that the shared store may take to answer."""
_SHARED_CONNECTIONS = 8

AtHome = Callable[[], Awaitable[bool]]
"""Tells whether an account was logged in to lately from where the attempt comes from."""


@dataclass(frozen=True, slots=True)
class _Counter:
    item: RateLimitItem
    key: tuple[str, ...]
    unless: AtHome | None = None
    """Asked where this would refuse: if it says so, this does not count."""


@dataclass(frozen=True, slots=True)
class _Hit:
    counter: _Counter
    limiter: FixedWindowRateLimiter
    """Which counted it: given back to another, it would let one attempt too many through there."""


@dataclass(slots=True)
class MailTurn:
    """Whether a mail may be sent, and whether it was."""

    is_admitted: bool
    is_used: bool = False
    """Set by the code that queues the mail; else the mail is not counted."""


class Throttle:
    """Counts attempts, and refuses what is too much."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._account_and_network = parse_many(settings.limit_account_and_network)
        self._account = parse(settings.limit_account)
        self._network = parse(settings.limit_network)
        self._total = parse(settings.limit_total)
        self._registrations = parse(settings.limit_registrations)
        self._mails = parse(settings.limit_mails)
        self._writes = parse_many(settings.limit_writes)
        self._local = FixedWindowRateLimiter(MemoryCounters())
        self._shared = _shared_limiter(settings)
        self._shared_from = 0.0
        # A flood of attempts would else open a connection for each, and the store seem away.
        self._turns = asyncio.Semaphore(_SHARED_CONNECTIONS)

    def open(self) -> None:
        """Begin in the event loop that runs now; the counters in memory go on.

        Connections to the shared store, and what waits for them, belong to one event loop.
        """
        self._turns = asyncio.Semaphore(_SHARED_CONNECTIONS)
        self._shared = _shared_limiter(self._settings)
        self._shared_from = 0.0

    @asynccontextmanager
    async def attempt(
        self,
        account: str,
        client: Client,
        *,
        at_home: AtHome | None = None,
    ) -> AsyncIterator[None]:
        """Around a check of a password: raises TooManyAttempts instead of entering the block.

        `account` is the canonical address, so that its spellings share one counter, whether there
        is such an account or not. `at_home` is asked only where a limit on networks together would
        refuse, and of one network no more often than it may guess. The block keeps what it cost if
        it ends in InvalidCredentials or WrongPassword, or is abandoned; otherwise the attempt is
        given back.
        """
        digest, network = _digest(account), client.network
        async with self._counted(
            *self._wide(client, at_home),
            _Counter(self._account, ("login", digest), unless=self._seldom(client, at_home)),
            *(_Counter(item, ("login", digest, network)) for item in self._account_and_network),
        ):
            yield

    @asynccontextmanager
    async def confirmation(
        self,
        account: str,
        session_id: UUID | None,
        client: Client,
        *,
        at_home: AtHome | None = None,
    ) -> AsyncIterator[None]:
        """As `attempt`, for the password of somebody who is logged in to `account`.

        By account it is counted apart, and by session: what strangers guess at this account does
        not keep its owner from changing the password, and neither does a thief of another session.
        """
        key = ("confirm", _digest(account))
        async with self._counted(
            *self._wide(client, at_home),
            _Counter(self._account, key),
            *(_Counter(item, (*key, str(session_id))) for item in self._account_and_network),
        ):
            yield

    def _wide(self, client: Client, at_home: AtHome | None) -> tuple[_Counter, _Counter]:
        # These first: whoever is stopped here leaves nothing behind for each account tried.
        return (
            _Counter(self._total, ("login-total",), unless=self._seldom(client, at_home)),
            _Counter(self._network, ("login-from", client.network)),
        )

    def _seldom(self, client: Client, at_home: AtHome | None) -> AtHome | None:
        if at_home is None:
            return None
        ask, counter = at_home, _Counter(self._network, ("home-asked-from", client.network))

        # What is refused costs its sender nothing, so the question must not cost us a query each.
        async def asked() -> bool:
            _, admitted = await self._hit(counter)
            return admitted and await ask()

        return asked

    @asynccontextmanager
    async def _counted(self, *counters: _Counter) -> AsyncIterator[None]:
        hits = await self._admit(*counters)
        try:
            yield
        except (Overloaded, StorageUnavailable):
            await self._give_back(hits)
            raise
        else:
            await self._give_back(hits)

    async def registration(self, client: Client) -> None:
        """Count a registration. Raises TooManyAttempts."""
        await self._admit(
            _Counter(self._total, ("register-total",)),
            _Counter(self._registrations, ("register", client.network)),
        )

    async def request(self, client: Client) -> None:
        """Count a request for mail, which cost as much as registrations. Raises TooManyAttempts."""
        await self._admit(
            _Counter(self._total, ("request-total",)),
            _Counter(self._registrations, ("request", client.network)),
        )

    async def write(self, user_id: UUID, session_id: UUID | None = None) -> None:
        """Count a change that the account makes. Raises TooManyRequests.

        With `session_id`, changes by that session are counted apart: another session of the
        account cannot use them up.
        """
        key = ("write", str(user_id)) if session_id is None else ("write-by", str(session_id))
        counters = (_Counter(item, key) for item in self._writes)
        await self._admit(*counters, refusal=TooManyRequests)

    @asynccontextmanager
    async def mail(
        self, purpose: str, account: str, *, spare_each: timedelta | None = None
    ) -> AsyncIterator[MailTurn]:
        """Around a transaction that may queue a mail which a stranger causes.

        `purpose` is what the stranger asked for, and `account` the canonical address that the mail
        goes to. Each purpose has a count of its own. The mail is counted only if the block ends
        without an error and has set `is_used`: a request for which no mail leaves costs nothing.
        With `spare_each`, it is one mail beyond the limit, and the only one in that time.
        """
        kind, item = "mail", self._mails
        if spare_each is not None:
            seconds = max(1, int(spare_each.total_seconds()))
            kind, item = "spare-mail", RateLimitItemPerSecond(1, seconds)
        counter = _Counter(item, (kind, purpose, _digest(account)))
        limiter, admitted = await self._hit(counter)
        turn, is_sent = MailTurn(admitted), False
        try:
            yield turn
            is_sent = admitted and turn.is_used
        finally:
            if not is_sent:
                await self._give_back([_Hit(counter, limiter)])

    async def ping(self) -> bool:
        """Whether the shared store answers. For a command: keeps no connection to it."""
        if self._shared is None:
            return False
        try:
            return await self._shared.storage.check()
        except Exception:
            return False
        finally:
            await self.close()

    async def close(self) -> None:
        """Close the connections to the shared store."""
        if self._shared is not None and isinstance(self._shared.storage, RedisStorage):
            client = self._shared.storage.bridge.get_connection()  # type: ignore[attr-defined]  # limits
            await client.aclose()

    async def _admit(
        self,
        *counters: _Counter,
        refusal: type[TooManyAttempts | TooManyRequests] = TooManyAttempts,
    ) -> Sequence[_Hit]:
        hits: list[_Hit] = []
        try:
            for counter in counters:
                limiter, admitted = await self._hit(counter)
                hits.append(_Hit(counter, limiter))
                if not admitted and not await self._is_exempt(counter):
                    raise refusal(retry_after=await self._wait(hits[-1]))
                if not admitted:
                    await self._give_back([hits.pop()])
        except BaseException:
            # No password was looked at, so this has cost nothing: it must not use up the other
            # limits, nor keep this one exceeded when those attempts are given back that it was
            # refused for.
            await self._give_back(hits)
            raise
        return hits

    async def _is_exempt(self, counter: _Counter) -> bool:
        return counter.unless is not None and await counter.unless()

    async def _hit(self, counter: _Counter) -> tuple[FixedWindowRateLimiter, bool]:
        if self._usable() is not None:
            async with self._turns:
                shared = self._usable()  # it may have failed those who were before us
                if shared is not None:
                    try:
                        return shared, await shared.hit(counter.item, *counter.key)
                    except Exception:
                        # Away, or not what it should be: either way it must neither stop a login
                        # nor let a guess go uncounted.
                        self._set_aside()
        return self._local, await self._local.hit(counter.item, *counter.key)

    async def _give_back(self, hits: Sequence[_Hit]) -> None:
        # To its end, also if the caller is cancelled: what is left would count against an account.
        if hits:
            await to_its_end(self._take_all_back(hits))

    async def _take_all_back(self, hits: Sequence[_Hit]) -> None:
        for hit in reversed(hits):
            if hit.limiter is self._local:
                await _take_back(hit)
            elif self._usable() is not None:
                try:
                    async with self._turns:
                        await _take_back(hit)
                except Exception:
                    self._set_aside()

    async def _wait(self, hit: _Hit) -> int:
        longest = hit.counter.item.get_expiry()
        try:
            stats = await hit.limiter.get_window_stats(hit.counter.item, *hit.counter.key)
        except Exception:
            return longest
        return max(1, min(math.ceil(stats.reset_time - now().timestamp()), longest))

    def _usable(self) -> FixedWindowRateLimiter | None:
        return self._shared if time.monotonic() >= self._shared_from else None

    def _set_aside(self) -> None:
        self._shared_from = time.monotonic() + _RETRY_SHARED_AFTER
        _log.warning("the shared store of limits is away: counting in memory meanwhile")


async def _take_back(hit: _Hit) -> None:
    item, storage = hit.counter.item, hit.limiter.storage
    key, expiry = item.key_for(*hit.counter.key), item.get_expiry()
    if await storage.incr(key, expiry, amount=-1) < 0:
        # The window that counted it is over, and the new one must not admit one more for it.
        await storage.incr(key, expiry, amount=1)


def _digest(account: str) -> str:
    return hashlib.sha256(account.encode()).hexdigest()


def _shared_limiter(settings: Settings) -> FixedWindowRateLimiter | None:
    if settings.redis_url is None:
        return None
    try:
        from redis.asyncio.retry import Retry  # noqa: PLC0415  # of an extra
        from redis.backoff import NoBackoff  # noqa: PLC0415
        from redis.exceptions import ConnectionError as NoConnection  # noqa: PLC0415

        storage = storage_from_string(
            f"async+{settings.redis_url.get_secret_value()}",
            implementation="redispy",
            wrap_exceptions=True,
            socket_timeout=_SHARED_TIMEOUT,
            socket_connect_timeout=_SHARED_TIMEOUT,
            # A connection kept from before the store was restarted is dead, and that is all it
            # means. What hangs is not asked twice.
            retry=Retry(NoBackoff(), 1, supported_errors=(NoConnection,)),  # type: ignore[arg-type]  # for redis
        )
    except Exception:
        # Whatever the library says of the URL may repeat its password.
        raise ConfigurationError(
            "AUTHAPI_REDIS_URL cannot be used: it takes redis://host:port/0 or rediss://, and the "
            "extra fastapi-authapi[redis]"
        ) from None
    if not isinstance(storage, RedisStorage):
        raise ConfigurationError("AUTHAPI_REDIS_URL must begin with redis:// or rediss://")
    if reason := _misread(settings.redis_url.get_secret_value()):
        raise ConfigurationError(f"AUTHAPI_REDIS_URL {reason}")
    pool = storage.bridge.get_connection().connection_pool  # type: ignore[attr-defined]  # limits
    pool.connection_class = _looking_up_alone(pool.connection_class)
    return FixedWindowRateLimiter(storage)


def _looking_up_alone(kind: type[Any]) -> type[Any]:
    """Connections of redis-py like `kind`, whose lookups take no thread that others share."""
    from redis.asyncio import Connection  # noqa: PLC0415  # of an extra

    if not issubclass(kind, Connection):
        return kind  # by a socket in the file system

    class Alone(kind):  # type: ignore[misc]  # known at run time
        async def _connect(self) -> None:
            async with asyncio.timeout(self.socket_connect_timeout):
                self._connected = await connected_socket(self.host, self.port)
                await super()._connect()

        def _connection_arguments(self) -> Mapping[str, object]:
            found = {**super()._connection_arguments(), "sock": self._connected}
            del found["host"], found["port"]
            # What the certificate has to name: of a socket, asyncio knows no name.
            return {**found, "server_hostname": self.host} if found.get("ssl") else found

    return Alone


def _misread(url: str) -> str | None:
    """What in a URL of Redis the library passes over silently, and what to write; or None."""
    parts = urlsplit(url)
    if not parts.hostname or parts.fragment:
        return (
            "must name a host: redis://user:password@host:6379/0; in a password, @ / ? # are"
            " written %40 %2F %3F %23"
        )
    if not re.fullmatch("/?|/[0-9]+", parts.path):
        return "must end with the number of a database: redis://host:6379/0"
    if found := {name.lower() for name in parse_qs(parts.query)} & {"ssl", "tls", "sslmode"}:
        return f"has the parameter {min(found)}: write rediss:// for TLS"
    return None
