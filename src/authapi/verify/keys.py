"""The keys of an issuer, kept in memory, and asked for again as seldom as can be.

What decides:

* They are kept for as long as the issuer says (`max-age`), within bounds. In the last quarter of
  that they are read again beside a request; after it, a request waits for that. So a key that was
  withdrawn is refused from then on, and no request waits as long as there are some.
* However many want them, they are asked for once at a time.
* A key that is not among them may be new, or made up. So it makes us look again, once in
  `look_again`, whoever sends it and however often.
* While the issuer is away it is asked again after 1, 2, 4 up to 60 seconds. What it published goes
  on being good for `outage`. A key that it did not publish can be neither accepted nor refused.
"""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import timedelta
from time import monotonic

from authapi.crypto.jwk import VerifyingKey
from authapi.errors import ConfigurationError, IssuerUnavailable
from authapi.verify.metadata import KeySource, Published
from authapi.verify.outgoing import Backoff, Unreachable

_log = logging.getLogger("authapi.verify")

Ring = Mapping[str, VerifyingKey]

_NOTHING: Ring = {}
_UNTOLD = timedelta(minutes=5)
"""For how long keys are kept of which the issuer does not say it."""
_MOST_BACKOFF = 60.0
_EARLY = 0.75
"""The part of their time after which keys are read again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyCache:
    """How long the keys of an issuer are kept, and how often it is asked for them.

    Raises ConfigurationError for times that are not positive, or contradict one another.
    """

    least: timedelta = timedelta(minutes=1)
    """They are kept for this long, whatever the issuer says."""
    most: timedelta = timedelta(hours=1)
    """And for this long at most: how late a withdrawn key is refused."""
    outage: timedelta = timedelta(days=1)
    """How long those known are good while the issuer cannot be asked."""
    look_again: timedelta = timedelta(seconds=10)
    """How often unknown keys may make us ask."""
    timeout: timedelta = timedelta(seconds=5)
    """For one look at the issuer, its metadata included."""

    def __post_init__(self) -> None:
        if any(getattr(self, item.name) <= timedelta(0) for item in fields(self)):
            raise ConfigurationError("the times of KeyCache must be positive")
        if not self.least <= self.most <= self.outage:
            raise ConfigurationError("KeyCache must have least <= most <= outage")


class RemoteKeys:
    """The keys of one issuer."""

    def __init__(self, source: KeySource, cache: KeyCache, *, issuer: str) -> None:
        self._source = source
        self._cache = cache
        self._issuer = issuer
        self._ring = _NOTHING
        self._read_at: float | None = None
        self._early_at = self._stale_at = 0.0
        self._backoff = Backoff(most=_MOST_BACKOFF)
        self._wrong: ConfigurationError | None = None
        self._reading: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Read them, if the issuer is there: it may well be started later.

        Raises ConfigurationError if another issuer answers.
        """
        self._reading = None  # of an event loop that is over, if there is one
        await asyncio.shield(self._begin())
        if self._wrong is not None:
            raise self._wrong

    async def stop(self) -> None:
        """End what is under way; what is known stays known."""
        reading, self._reading = self._reading, None
        if reading is not None:
            reading.cancel()
            await asyncio.wait([reading])

    def at_hand(self) -> Ring:
        """Those that are good without asking anybody."""
        if self._read_at is None:
            return _NOTHING
        is_good = monotonic() < self._read_at + self._cache.outage.total_seconds()
        return self._ring if is_good else _NOTHING

    @property
    def are_due(self) -> bool:
        """Whether it is time to ask `current` again."""
        return self._reading is None and monotonic() >= self._early_at and self._backoff.is_over

    async def current(self) -> Ring:
        """Those at hand, read again if it is time to; empty while there are none."""
        if self._read_at is None:
            return _NOTHING
        reading = self._begin() if self.are_due else self._reading
        if reading is not None and monotonic() >= self._stale_at and not self._backoff.failures:
            await asyncio.shield(reading)
        return self.at_hand()

    async def look_again(self, seen: Ring) -> Ring:
        """Those that the issuer has by now, as `seen` lacks one; `seen` if it was asked just now.

        Raises IssuerUnavailable if it cannot be asked.
        """
        reading = self._reading
        if reading is None:
            if (known := self.at_hand()) is not seen:
                return known  # somebody else has looked meanwhile
            if not self._backoff.is_over:
                raise IssuerUnavailable(retry_after=self._backoff.retry_after)
            if not self._backoff.failures and self._was_read_just_now():
                return known
            reading = self._begin()
        await asyncio.shield(reading)
        if self._backoff.failures:
            raise IssuerUnavailable(retry_after=self._backoff.retry_after)
        return self.at_hand()

    def _was_read_just_now(self) -> bool:
        if self._read_at is None:
            return False
        return monotonic() < self._read_at + self._cache.look_again.total_seconds()

    def _begin(self) -> asyncio.Task[None]:
        # A task of its own: whoever waits may hang up, and the others still get what they wait for.
        if self._reading is None:
            self._reading = asyncio.create_task(self._read(), name=f"keys of {self._issuer}")
            self._reading.add_done_callback(self._has_ended)
        return self._reading

    def _has_ended(self, reading: asyncio.Task[None]) -> None:
        # A callback, as a task that is cancelled before its first step runs none of its own code.
        if self._reading is reading:
            self._reading = None

    async def _read(self) -> None:
        self._wrong = None
        try:
            async with asyncio.timeout(self._cache.timeout.total_seconds()):
                published = await self._source.read()
        except Exception as error:
            # Whatever it was, the issuer could not be asked. Its class only, or our own words.
            self._wrong = error if isinstance(error, ConfigurationError) else None
            ours = isinstance(error, ConfigurationError | Unreachable)
            self._backoff.failed()
            _log.log(
                logging.ERROR if self._wrong else logging.WARNING,
                "the keys of an issuer cannot be read",
                extra={
                    "issuer": self._issuer,
                    "cause": str(error) if ours else type(error).__name__,
                },
            )
        else:
            self._backoff.succeeded()
            self._keep(published)

    def _keep(self, published: Published) -> None:
        if not published.keys:
            _log.warning("an issuer publishes no usable keys", extra={"issuer": self._issuer})
        if _uses(published.keys) != _uses(self._ring):
            # Only then: what was verified with the same keys stays verified.
            self._ring = published.keys
        told = _UNTOLD if published.max_age is None else published.max_age
        kept = min(max(told, self._cache.least), self._cache.most).total_seconds()
        self._read_at = monotonic()
        self._early_at = self._read_at + kept * _EARLY
        self._stale_at = self._read_at + kept


def _uses(ring: Ring) -> Mapping[str, object]:
    """What may be verified with the keys of a ring."""
    return {
        kid: (key.jwk, frozenset(key.others), key.issuer, key.is_named) for kid, key in ring.items()
    }
