"""Passwords: which are allowed, and where the slow work on them is done.

Hashing takes tens of milliseconds and `argon2_memory` each, so it runs in threads of its own: as
many as `hash_concurrency`, never on the event loop, never without bound.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from authapi.crypto.passwords import Cost, PasswordHash, PasswordHasher
from authapi.errors import InputError, InvalidInput, Overloaded
from authapi.settings import Settings

T = TypeVar("T")


class Passwords:
    """The password policy, and a bounded pool of threads that hash."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._limit = settings.hash_concurrency + settings.hash_queue
        self._pending = 0
        self._pool: ThreadPoolExecutor | None = None
        self._hasher: PasswordHasher | None = None

    def check_new(self, password: str, *, field: str = "password") -> None:
        """Return if `password` may be chosen; else raise InvalidInput naming `field`.

        Length only, in characters, and no rules of composition (OWASP ASVS 6.2.1, 6.2.5, 6.2.9).
        """
        least, most = self._settings.password_min_length, self._settings.password_max_length
        if len(password) < least:
            error = InputError(
                ("body", field), "password_too_short", f"at least {least} characters"
            )
            raise InvalidInput(error)
        if len(password) > most:
            error = InputError(("body", field), "password_too_long", f"at most {most} characters")
            raise InvalidInput(error)

    async def hash(self, password: str) -> PasswordHash:
        """The hash to store. Raises Overloaded when too many are waiting."""
        return await self._run(lambda hasher: hasher.hash(password))

    async def verify(self, password: str, stored: PasswordHash | None) -> None:
        """Return if the password belongs to the hash; raise PasswordMismatch, or Overloaded.

        None stands for no account or no password, and takes the same time.
        """
        await self._run(lambda hasher: hasher.verify(password, stored))

    async def is_outdated(self, stored: PasswordHash) -> bool:
        """Whether the hash is weaker than the settings now ask for."""
        return await self._run(lambda hasher: hasher.is_outdated(stored))

    async def start(self) -> None:
        """Make the threads, and the hasher so that the first login is not slower than the second.

        What was stopped may be started again, as tests of one application do.
        """
        settings = self._settings
        cost = Cost(settings.argon2_memory, settings.argon2_passes, settings.argon2_lanes)
        self._hasher = await asyncio.to_thread(PasswordHasher, cost)
        self._pool = ThreadPoolExecutor(settings.hash_concurrency, thread_name_prefix="hash")
        self._pending = 0

    def stop(self) -> None:
        """Let the threads end when what they have begun is done."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None

    async def _run(self, work: Callable[[PasswordHasher], T]) -> T:
        pool = self._pool
        if self._hasher is None or pool is None:
            raise RuntimeError("authapi is not started: run the application's lifespan")
        if self._pending >= self._limit:
            raise Overloaded
        self._pending += 1
        loop = asyncio.get_running_loop()
        future = pool.submit(work, self._hasher)
        # Counted until the thread is done with it, not until the caller stops waiting: a client
        # that hangs up does not stop the hash that it asked for.
        future.add_done_callback(lambda _: self._release(loop, pool))
        return await asyncio.wrap_future(future)

    def _release(self, loop: asyncio.AbstractEventLoop, pool: ThreadPoolExecutor) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(self._decrement, pool)

    def _decrement(self, pool: ThreadPoolExecutor) -> None:
        if pool is self._pool:  # and not of a start before this one
            self._pending -= 1
