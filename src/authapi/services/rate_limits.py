"""Rate limits for password guessing, registrations, mail and writes.

`RateLimits` counts a password attempt before the password is verified, so 100 concurrent attempts
cost as few hashes as ten sequential ones. A successful attempt is refunded; it does not reset the
counter, so a login to an account of the attacker's own does not reset anything.

No account is ever locked (OWASP ASVS 6.1.1). The tightest limit counts one account from one
network, so an attacker's guesses do not keep the owner from logging in from another network. The
limits that add up networks do not apply to known networks, from which the account was logged in to
recently. Attempts at the password of an authenticated user count separately.

Counters are in memory, or in Redis or Valkey if several processes share them. If that shared
storage is unavailable, each process counts in its own memory until the storage answers again.
"""

import asyncio
import hashlib
import logging
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from limits import RateLimitItem, RateLimitItemPerSecond, parse, parse_many
from limits.aio.storage import RedisStorage
from limits.aio.strategies import FixedWindowRateLimiter

from authapi.clock import now
from authapi.domain.client import Client
from authapi.domain.monitoring.signals import Signals
from authapi.errors import (
    Overloaded,
    StorageUnavailable,
    TooManyAttempts,
    TooManyRequests,
)
from authapi.services.jobs.shutdown import run_to_completion
from authapi.services.rate_limit_storage import (
    MemoryRateLimitStorage,
    close_redis,
    redis_storage,
)
from authapi.settings import Settings

_log = logging.getLogger(__name__)

_SHARED_RETRY_DELAY = 5.0
"""Seconds until a shared storage that failed is used again: each failure may take a time-out."""
_SHARED_CONNECTIONS = 8

KnownNetworkCheck = Callable[[], Awaitable[bool]]
"""Returns whether the account was logged in to recently from the network of the attempt."""


@dataclass(frozen=True, slots=True)
class _Limit:
    item: RateLimitItem
    key: tuple[str, ...]
    exemption: KnownNetworkCheck | None = None
    """Called when the limit is exceeded: if it returns True, the limit does not apply."""


@dataclass(frozen=True, slots=True)
class _Hit:
    limit: _Limit
    limiter: FixedWindowRateLimiter
    """The limiter that counted the hit. A refund in the other storage would allow one attempt too
    many there."""


@dataclass(slots=True)
class MailAllowance:
    """Whether a mail may be sent, and whether it was queued."""

    is_allowed: bool
    is_used: bool = False
    """Set by the code that queues the mail. Otherwise the mail is not counted."""


class RateLimits:
    """Counts attempts, registrations, mails and writes, and rejects those over the limit.

    No method fails because the shared storage does: the counters in memory take over.
    """

    def __init__(self, settings: Settings, signals: Signals | None = None) -> None:
        """Raises ConfigurationError if `redis_url` cannot be used."""
        self._signals = signals or Signals()
        self._settings = settings
        self._account_and_network = parse_many(settings.limit_account_and_network)
        self._account = parse(settings.limit_account)
        self._network = parse(settings.limit_network)
        self._total = parse(settings.limit_total)
        self._registrations = parse(settings.limit_registrations)
        self._mails = parse(settings.limit_mails)
        self._writes = parse_many(settings.limit_writes)
        self._second_factor = parse_many(settings.limit_second_factor)
        self._second_factor_known = parse_many(settings.limit_second_factor_known)
        self._local = FixedWindowRateLimiter(MemoryRateLimitStorage())
        self._connect_shared()

    def open(self) -> None:
        """Uses the running event loop from now on. Keeps the counters in memory.

        Connections to the shared storage belong to one event loop, as do the tasks that wait for
        them. Raises ConfigurationError if `redis_url` cannot be used.
        """
        self._connect_shared()

    def _connect_shared(self) -> None:
        storage = redis_storage(self._settings)
        self._redis: RedisStorage | None = storage
        self._shared = None if storage is None else FixedWindowRateLimiter(storage)
        self._shared_retry_at = 0.0
        # Without this bound, a flood of attempts would open one connection each, run into
        # time-outs, and the storage would seem unavailable.
        self._shared_slots = asyncio.Semaphore(_SHARED_CONNECTIONS)

    @asynccontextmanager
    async def login_attempt(
        self,
        account: str,
        client: Client,
        *,
        known_network: KnownNetworkCheck | None = None,
    ) -> AsyncIterator[None]:
        """Context manager around the verification of a password by an unauthenticated client.

        `account` is the canonical address, so that all spellings share one counter. Unknown
        accounts are counted in the same way. `known_network` is called only if a limit that adds up
        networks is exceeded, and for one network only as often as `limit_network` allows.

        The attempt is refunded if the block succeeds, or raises Overloaded or StorageUnavailable.
        It stays counted if the block raises another error, such as InvalidCredentials or
        WrongPassword, or is cancelled.
        Raises TooManyAttempts instead of entering the block.
        """
        digest, network = _digest(account), client.network
        async with self._counted(
            *self._total_and_network(client, known_network),
            _Limit(self._account, ("login", digest), self._limited(client, known_network)),
            *(_Limit(item, ("login", digest, network)) for item in self._account_and_network),
        ):
            yield

    @asynccontextmanager
    async def confirmation_attempt(
        self,
        account: str,
        session_id: UUID | None,
        client: Client,
        *,
        known_network: KnownNetworkCheck | None = None,
    ) -> AsyncIterator[None]:
        """As `login_attempt`, for the password of a user who is logged in to `account`.

        These attempts have counters of their own, for the account and for the session. Guesses by
        unauthenticated clients therefore do not keep the owner from changing the password, nor do
        guesses from another, stolen session. Raises TooManyAttempts.
        """
        key = ("confirm", _digest(account))
        async with self._counted(
            *self._total_and_network(client, known_network),
            _Limit(self._account, key),
            *(_Limit(item, (*key, str(session_id))) for item in self._account_and_network),
        ):
            yield

    @asynccontextmanager
    async def second_factor_attempt(
        self, user_id: UUID, *, is_known_network: bool
    ) -> AsyncIterator[None]:
        """Context manager around the verification of a code that an authenticator app shows.

        The attempts from networks that the account knows have counters of their own, so that an
        attacker who has the password cannot lock the owner out. No network is exempt. The attempt
        is refunded as that of `login_attempt`. Raises TooManyAttempts.
        """
        known = "known" if is_known_network else "unknown"
        items = self._second_factor_known if is_known_network else self._second_factor
        async with self._counted(
            *(_Limit(item, ("second-factor", known, str(user_id))) for item in items)
        ):
            yield

    def _total_and_network(
        self, client: Client, known_network: KnownNetworkCheck | None
    ) -> tuple[_Limit, _Limit]:
        # Checked first: an attempt that is rejected here creates no counter for its account.
        return (
            _Limit(self._total, ("login-total",), self._limited(client, known_network)),
            _Limit(self._network, ("login-from", client.network)),
        )

    def _limited(
        self, client: Client, known_network: KnownNetworkCheck | None
    ) -> KnownNetworkCheck | None:
        if known_network is None:
            return None
        check, limit = known_network, _Limit(self._network, ("known-network", client.network))

        # A rejected attempt costs the client nothing, so it must not cost us a query each time.
        async def limited_check() -> bool:
            _, is_within = await self._consume(limit)
            return is_within and await check()

        return limited_check

    @asynccontextmanager
    async def _counted(self, *limits: _Limit) -> AsyncIterator[None]:
        hits = await self._consume_all(*limits)
        try:
            yield
        except (Overloaded, StorageUnavailable):
            await self._refund(hits)
            raise
        else:
            await self._refund(hits)

    async def consume_registration(self, client: Client) -> None:
        """Counts a registration. Raises TooManyAttempts."""
        await self._consume_all(
            _Limit(self._total, ("register-total",)),
            _Limit(self._registrations, ("register", client.network)),
        )

    async def consume_visit(self, client: Client) -> None:
        """Counts the start or the end of a visit to a provider. Raises TooManyAttempts."""
        await self._consume_all(_Limit(self._network, ("visit", client.network)))

    async def consume_mail_request(self, client: Client) -> None:
        """Counts a request for mail, within the limits of registrations. Raises TooManyAttempts."""
        await self._consume_all(
            _Limit(self._total, ("request-total",)),
            _Limit(self._registrations, ("request", client.network)),
        )

    async def consume_write(self, user_id: UUID, session_id: UUID | None = None) -> None:
        """Counts a change that the account makes. Raises TooManyRequests.

        With `session_id`, the changes of that session have a counter of their own: another session
        of the account cannot use it up.
        """
        key = ("write", str(user_id)) if session_id is None else ("write-by", str(session_id))
        limits = (_Limit(item, key) for item in self._writes)
        await self._consume_all(*limits, error=TooManyRequests)

    async def consume_own_mail(self, purpose: str, account: str) -> None:
        """Counts a mail that a user sends to the own address `account`. Raises TooManyRequests."""
        limit = _Limit(self._mails, ("mail", purpose, _digest(account)))
        await self._consume_all(limit, error=TooManyRequests)

    @asynccontextmanager
    async def allow_mail(
        self, purpose: str, account: str, *, extra_per: timedelta | None = None
    ) -> AsyncIterator[MailAllowance]:
        """Context manager around a transaction that may queue a mail for an unauthenticated client.

        `purpose` is what the client requested; each purpose has a counter of its own. `account` is
        the canonical address of the recipient. The mail is counted only if the block succeeds and
        has set `is_used`, so a request that leads to no mail is not counted. With `extra_per`, the
        limit is one mail in that time, in addition to `limit_mails`.
        """
        kind, item = "mail", self._mails
        if extra_per is not None:
            seconds = max(1, int(extra_per.total_seconds()))
            kind, item = "extra-mail", RateLimitItemPerSecond(1, seconds)
        limit = _Limit(item, (kind, purpose, _digest(account)))
        limiter, is_within = await self._consume(limit)
        if not is_within:
            self._signals.throttled(kind)
        allowance, is_sent = MailAllowance(is_within), False
        try:
            yield allowance
            is_sent = is_within and allowance.is_used
        finally:
            if not is_sent:
                await self._refund([_Hit(limit, limiter)])

    async def ping(self) -> bool:
        """Returns whether the shared storage answers, and closes the connections to it.

        For commands, which keep no connections.
        """
        if self._redis is None:
            return False
        try:
            return await self._redis.check()
        except Exception:
            return False
        finally:
            await self.close()

    async def close(self) -> None:
        """Closes the connections to the shared storage."""
        if self._redis is not None:
            await close_redis(self._redis)

    async def _consume_all(
        self,
        *limits: _Limit,
        error: type[TooManyAttempts | TooManyRequests] = TooManyAttempts,
    ) -> Sequence[_Hit]:
        hits: list[_Hit] = []
        try:
            for limit in limits:
                limiter, is_within = await self._consume(limit)
                hits.append(_Hit(limit, limiter))
                if not is_within and not await self._is_exempt(limit):
                    self._signals.throttled(limit.key[0])
                    raise error(retry_after=await self._retry_after(hits[-1]))
                if not is_within:
                    await self._refund([hits.pop()])
        except BaseException:
            # No password was verified. The rejected attempt must not use up the other limits, nor
            # keep this limit exceeded after the attempts that filled it have been refunded.
            await self._refund(hits)
            raise
        return hits

    async def _is_exempt(self, limit: _Limit) -> bool:
        return limit.exemption is not None and await limit.exemption()

    async def _consume(self, limit: _Limit) -> tuple[FixedWindowRateLimiter, bool]:
        if self._available_shared() is not None:
            async with self._shared_slots:
                shared = self._available_shared()  # may have failed while this task waited
                if shared is not None:
                    try:
                        return shared, await shared.hit(limit.item, *limit.key)
                    except Exception:
                        # Unreachable, or a key holds an unexpected value. Neither may prevent a
                        # login, nor leave a guess uncounted.
                        self._suspend_shared()
        return self._local, await self._local.hit(limit.item, *limit.key)

    async def _refund(self, hits: Sequence[_Hit]) -> None:
        # Completes even if the caller is cancelled: a hit that is not refunded would count against
        # an account.
        if hits:
            await run_to_completion(self._refund_all(hits))

    async def _refund_all(self, hits: Sequence[_Hit]) -> None:
        for hit in reversed(hits):
            if hit.limiter is self._local:
                await _refund_hit(hit)
            elif self._available_shared() is not None:
                try:
                    async with self._shared_slots:
                        await _refund_hit(hit)
                except Exception:
                    self._suspend_shared()

    async def _retry_after(self, hit: _Hit) -> int:
        window = hit.limit.item.get_expiry()
        try:
            stats = await hit.limiter.get_window_stats(hit.limit.item, *hit.limit.key)
        except Exception:
            return window
        return max(1, min(math.ceil(stats.reset_time - now().timestamp()), window))

    def _available_shared(self) -> FixedWindowRateLimiter | None:
        return self._shared if time.monotonic() >= self._shared_retry_at else None

    def _suspend_shared(self) -> None:
        self._shared_retry_at = time.monotonic() + _SHARED_RETRY_DELAY
        _log.warning("shared rate limit storage unavailable: counting in memory")


async def _refund_hit(hit: _Hit) -> None:
    item, storage = hit.limit.item, hit.limiter.storage
    key, expiry = item.key_for(*hit.limit.key), item.get_expiry()
    if await storage.incr(key, expiry, amount=-1) < 0:
        # The window of the hit has ended. Its refund must not add an attempt to the next window.
        await storage.incr(key, expiry, amount=1)


def _digest(account: str) -> str:
    return hashlib.sha256(account.encode()).hexdigest()
