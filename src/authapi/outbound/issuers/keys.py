"""A cache of the key set of one issuer.

* The cache keeps the key set for the `max-age` of the response, within the bounds of `KeyCache`. In
  the last quarter of that time it reads the key set again in the background; afterwards requests
  wait for the result. A withdrawn key is therefore rejected after that time at the latest.
* At most one read is under way at a time; all requests share its result.
* A token may name a key that is not in the key set: a new key, or an invented one. Such tokens
  trigger a read at most once in `KeyCache.look_again`, independent of the number of requests.
* While the issuer is unavailable, reads are retried after about 1, 2, 4 up to 60 seconds. The
  cached keys stay valid for `KeyCache.outage`. A token with an unknown key can then be neither
  accepted nor rejected, so the request gets IssuerUnavailable.
"""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import timedelta
from time import monotonic

from authapi.crypto.jwk import VerifyingKey
from authapi.errors import ConfigurationError, IssuerUnavailable
from authapi.outbound.http_client import RequestFailed
from authapi.outbound.issuers.backoff import Backoff
from authapi.outbound.issuers.metadata import KeySource, Published

KeySet = Mapping[str, VerifyingKey]
"""The keys of an issuer by `kid`."""

_EMPTY: KeySet = {}
_DEFAULT_MAX_AGE = timedelta(minutes=5)
"""How long keys are kept if the response has no `max-age`."""
_MAX_BACKOFF = 60.0
_REFRESH_AFTER = 0.75
"""The fraction of that time after which keys are read again in the background."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyCache:
    """How long the keys of an issuer are cached, and how often they are requested.

    Raises ConfigurationError unless all times are positive and least <= most <= outage.
    """

    least: timedelta = timedelta(minutes=1)
    """The least time that keys are kept, also if `max-age` is shorter."""
    most: timedelta = timedelta(hours=1)
    """The longest time that keys are kept, and that a withdrawn key is accepted."""
    outage: timedelta = timedelta(days=1)
    """How long cached keys stay valid while the issuer is unavailable."""
    look_again: timedelta = timedelta(seconds=10)
    """The least time between two reads that are caused by unknown keys."""
    timeout: timedelta = timedelta(seconds=5)
    """Limit for one read, including the metadata."""

    def __post_init__(self) -> None:
        if any(getattr(self, item.name) <= timedelta(0) for item in fields(self)):
            raise ConfigurationError("the times of KeyCache must be positive")
        if not self.least <= self.most <= self.outage:
            raise ConfigurationError("KeyCache must have least <= most <= outage")


class RemoteKeys:
    """Caches the key set of one issuer. Failures are told to `log`."""

    def __init__(
        self,
        source: KeySource,
        cache: KeyCache,
        *,
        issuer: str,
        log: logging.Logger = logging.getLogger("authapi.verify"),  # noqa: B008
    ) -> None:
        self._source = source
        self._cache = cache
        self._issuer = issuer
        self._log = log
        self._key_set = _EMPTY
        self._read_at: float | None = None
        self._refresh_at = self._stale_at = 0.0
        self._backoff = Backoff(max_delay=_MAX_BACKOFF)
        self._configuration_error: ConfigurationError | None = None
        self._read_task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Reads the keys. An unavailable issuer is no error, because it may start later.

        Raises ConfigurationError if the metadata belongs to another issuer.
        """
        self._read_task = None  # a task of an earlier event loop
        await asyncio.shield(self._start_read())
        if self._configuration_error is not None:
            raise self._configuration_error

    async def stop(self) -> None:
        """Cancels a read that is under way. Cached keys stay cached."""
        task, self._read_task = self._read_task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    def cached(self) -> KeySet:
        """Returns the cached keys without a request: none before a read and after `outage`."""
        if self._read_at is None:
            return _EMPTY
        is_good = monotonic() < self._read_at + self._cache.outage.total_seconds()
        return self._key_set if is_good else _EMPTY

    @property
    def is_refresh_due(self) -> bool:
        """Whether the next call of `current` starts a read."""
        is_idle = self._read_task is None and self._backoff.is_elapsed
        return is_idle and monotonic() >= self._refresh_at

    async def current(self) -> KeySet:
        """Returns the keys, after a read if they are stale. Empty until a read has succeeded.

        If a read is due and the keys are not stale, it runs in the background. Never raises.
        """
        if self._read_at is None:
            return _EMPTY
        task = self._start_read() if self.is_refresh_due else self._read_task
        if task is not None and monotonic() >= self._stale_at and not self._backoff.failures:
            await asyncio.shield(task)
        return self.cached()

    async def refresh(self, seen: KeySet) -> KeySet:
        """Returns the keys, read again unless they were read a moment ago.

        `seen` is the key set in which the caller missed a key. Raises IssuerUnavailable if the
        issuer does not give a usable response, or is in backoff after failures.
        """
        task = self._read_task
        if task is None:
            if (cached := self.cached()) is not seen:
                return cached  # another request has read them meanwhile
            if not self._backoff.is_elapsed:
                raise IssuerUnavailable(retry_after=self._backoff.retry_after)
            if not self._backoff.failures and self._was_read_recently():
                return cached
            task = self._start_read()
        await asyncio.shield(task)
        if self._backoff.failures:
            raise IssuerUnavailable(retry_after=self._backoff.retry_after)
        return self.cached()

    def _was_read_recently(self) -> bool:
        if self._read_at is None:
            return False
        return monotonic() < self._read_at + self._cache.look_again.total_seconds()

    def _start_read(self) -> asyncio.Task[None]:
        # A separate task: if a waiting client disconnects, the other requests still get the result.
        if self._read_task is None:
            self._read_task = asyncio.create_task(self._read(), name=f"keys of {self._issuer}")
            self._read_task.add_done_callback(self._clear_task)
        return self._read_task

    def _clear_task(self, task: asyncio.Task[None]) -> None:
        # A callback, because a task that is cancelled before its first step never runs `finally`.
        if self._read_task is task:
            self._read_task = None

    async def _read(self) -> None:
        self._configuration_error = None
        try:
            async with asyncio.timeout(self._cache.timeout.total_seconds()):
                published = await self._source.read()
        except Exception as error:
            # Other errors are logged by class only: their text may repeat the response.
            self._configuration_error = error if isinstance(error, ConfigurationError) else None
            has_own_text = isinstance(error, ConfigurationError | RequestFailed)
            self._backoff.record_failure()
            self._log.log(
                logging.ERROR if self._configuration_error else logging.WARNING,
                "issuer keys not available",
                extra={
                    "issuer": self._issuer,
                    "cause": str(error) if has_own_text else type(error).__name__,
                },
            )
        else:
            self._backoff.record_success()
            self._store(published)

    def _store(self, published: Published) -> None:
        if not published.keys:
            self._log.warning("issuer publishes no usable keys", extra={"issuer": self._issuer})
        if _fingerprint(published.keys) != _fingerprint(self._key_set):
            # Same object while the keys are the same: identities cached under it stay valid.
            self._key_set = published.keys
        max_age = _DEFAULT_MAX_AGE if published.max_age is None else published.max_age
        lifetime = min(max(max_age, self._cache.least), self._cache.most).total_seconds()
        self._read_at = monotonic()
        self._refresh_at = self._read_at + lifetime * _REFRESH_AFTER
        self._stale_at = self._read_at + lifetime


def _fingerprint(key_set: KeySet) -> Mapping[str, object]:
    """Everything about a key set that decides whether it verifies a signature."""
    return {
        kid: (key.jwk, frozenset(key.other_algorithms), key.issuer, key.has_kid)
        for kid, key in key_set.items()
    }
