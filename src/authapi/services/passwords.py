"""Passwords: which may be chosen, and where the slow work on them is done.

Hashing takes tens of milliseconds and `argon2_memory` each, so it runs in threads of its own: as
many as `hash_concurrency`, never on the event loop, never without bound. Up to `hash_queue` more
wait; the networks that they come from share that queue (`fair_queue`).
"""

import asyncio
import contextlib
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, Protocol, TypeVar

from authapi.crypto.password_text import has_control_characters, opaque_string
from authapi.crypto.passwords import Cost, PasswordHash, PasswordHasher
from authapi.errors import InputError, InvalidInput, Overloaded
from authapi.identity import current_client
from authapi.services.common_passwords import fold, is_common
from authapi.services.fair_queue import FairQueue
from authapi.settings import Settings

T = TypeVar("T")


class BreachCheck(Protocol):
    """Whether a password is known from a breach."""

    async def __call__(self, password: str) -> bool:
        """Raises OSError or TimeoutError if it cannot tell."""

    async def close(self) -> None:
        """Let go of what it keeps open."""


_log = logging.getLogger(__name__)

_BREACH_BOUND = 1.0
"""Seconds that a breach check may take; then the password counts as not breached."""
_SHORTEST_WORD = 4
_NICENESS = 10


class Passwords:
    """The password policy, and a bounded pool of threads that hash."""

    def __init__(self, settings: Settings, breached: BreachCheck | None = None) -> None:
        self._settings = settings
        self._breached = breached
        self._limit = settings.hash_concurrency + settings.hash_queue
        self._queue: FairQueue[_Job[Any]] = FairQueue(self._limit)
        self._pool: ThreadPoolExecutor | None = None
        self._hasher: PasswordHasher | None = None

    async def check_new(self, password: str, *, email: str, field: str = "password") -> None:
        """Return if the owner of `email` may choose `password`; else raise InvalidInput.

        The error names `field`. All rules are about the normal form (`crypto.password_text`). What
        counts is that it holds no control characters, its length, that it is not common, not
        mostly made of words that anybody would try here, and, if that is switched on, not known
        from a breach; there are no rules of composition (OWASP ASVS 6.2.1 to 6.2.12). A breach
        check that does not answer within a second is passed over, with a line in the log.
        """
        if has_control_characters(password):
            message = "holds a control character"
            raise _refusal(field, "password_control_character", message)
        password = opaque_string(password)
        least, most = self._settings.password_min_length, self._settings.password_max_length
        if len(password) < least:
            raise _refusal(field, "password_too_short", f"at least {least} characters")
        if len(password) > most:
            raise _refusal(field, "password_too_long", f"at most {most} characters")
        if is_common(password):
            raise _refusal(field, "password_common", "too many people have this password")
        words = (*self._settings.password_context_words, *_words_of(email))
        if _without(fold(password), words) < least * 2 // 3:
            message = "made too much of your address, or of words that belong to this service"
            raise _refusal(field, "password_guessable", message)
        if await self._is_breached(password):
            raise _refusal(field, "password_breached", "known from a breach of another service")

    async def hash(self, password: str) -> PasswordHash:
        """The hash to store. Raises Overloaded when too many are waiting."""
        return await self._run(lambda hasher: hasher.hash(password))

    async def verify(self, password: str, stored: PasswordHash | None) -> None:
        """Return if the password belongs to the hash; raise PasswordMismatch, or Overloaded.

        None stands for no account or no password, and takes the same time.
        """
        await self._run(lambda hasher: hasher.verify(password, stored))

    def is_outdated(self, stored: PasswordHash) -> bool:
        """Whether the hash is weaker than the settings now ask for. Costs no hashing."""
        if self._hasher is None:
            raise RuntimeError("authapi is not started: run the application's lifespan")
        return self._hasher.is_outdated(stored)

    async def start(self) -> None:
        """Make the threads, and the hasher so that the first login is not slower than the second.

        What was stopped may be started again, as tests of one application do.
        """
        settings = self._settings
        cost = Cost(settings.argon2_memory, settings.argon2_passes, settings.argon2_lanes)
        self._hasher = await asyncio.to_thread(PasswordHasher, cost)
        self._replace_pool()

    async def stop(self) -> None:
        """Close the breach check, and end the threads once what they have begun is done."""
        pool, self._pool = self._pool, None
        try:
            if pool is not None:
                pool.shutdown(wait=False, cancel_futures=True)
                self._cancel_waiting()
                await asyncio.to_thread(pool.shutdown)
        finally:
            if self._breached is not None:
                await self._breached.close()

    async def _is_breached(self, password: str) -> bool:
        if self._breached is None:
            return False
        try:
            async with asyncio.timeout(_BREACH_BOUND):
                return await self._breached(password)
        except (OSError, TimeoutError):
            _log.warning("the breach check did not answer: a new password was not checked")
            return False

    @property
    def running(self) -> int:
        """Hashes that are being computed."""
        return min(self._pending, self._settings.hash_concurrency)

    @property
    def waiting(self) -> int:
        """Hashes that wait for their turn."""
        return self._pending - self.running

    @property
    def _pending(self) -> int:
        # Counted until the thread is done with it, not until the caller stops waiting: a client
        # that hangs up does not stop the hash that it asked for.
        return len(self._queue)

    async def _run(self, work: Callable[[PasswordHasher], T]) -> T:
        pool, queue = self._pool, self._queue
        if self._hasher is None or pool is None:
            raise RuntimeError("authapi is not started: run the application's lifespan")
        network, job = current_client().network, _Job(work, self._hasher)
        is_admitted, removed = queue.put(network, job)
        if removed is not None:
            removed.refuse()
        if not is_admitted:
            raise Overloaded

        def leave(future: "Future[T]") -> None:
            if future.cancelled():
                queue.discard(network, job)
                job.drop()

        job.future.add_done_callback(leave)
        try:
            pool.submit(_do_next, queue)
        except BaseException as error:
            # If the entry is gone, another thread of the pool has taken it or it was refused.
            if queue.discard(network, job):
                if not isinstance(error, RuntimeError | MemoryError):
                    raise
                self._no_thread(error)
                raise Overloaded from error
        return await asyncio.wrap_future(job.future)

    def _no_thread(self, error: BaseException) -> None:
        _log.error("no thread for a password hash", extra={"cause": str(error)})
        if self._pool is not None and not self._pending:
            # A pool queues what it has no thread for before it says so. Where no thread is left
            # to take that out, it goes together with its pool.
            self._replace_pool()

    def _replace_pool(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
        self._cancel_waiting()
        self._pool = ThreadPoolExecutor(
            self._settings.hash_concurrency, thread_name_prefix="hash", initializer=_step_back
        )
        self._queue = FairQueue(self._limit)

    def _cancel_waiting(self) -> None:
        for job in self._queue.clear():
            job.future.cancel()


class _Job(Generic[T]):
    """Work for a thread of the pool, and the future with its result."""

    def __init__(self, work: Callable[[PasswordHasher], T], hasher: PasswordHasher) -> None:
        self._work: Callable[[PasswordHasher], T] | None = work
        self._hasher = hasher
        self.future: Future[T] = Future()

    def run(self, finish: Callable[[], None]) -> None:
        """Do the work unless it was cancelled. Calls `finish` before the caller has the result."""
        work, self._work = self._work, None
        if work is None or not self.future.set_running_or_notify_cancel():
            finish()
            return
        try:
            result = work(self._hasher)
        except BaseException as error:
            finish()
            self.future.set_exception(error)
        else:
            finish()
            self.future.set_result(result)

    def drop(self) -> None:
        """Let go of the work, and of the password in it."""
        self._work = None

    def refuse(self) -> None:
        """Raise Overloaded in the caller."""
        self.drop()
        if self.future.set_running_or_notify_cancel():
            self.future.set_exception(Overloaded())


def _do_next(queue: FairQueue[_Job[Any]]) -> None:
    """Do the job whose turn it is, in a thread of the pool."""
    if (taken := queue.take()) is not None:
        job, finish = taken
        job.run(finish)


def _step_back() -> None:
    # On Linux each thread has a niceness of its own. A storm of logins may have every core that
    # nobody else wants; the event loop, which serves all others, always wants one.
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            thread = threading.get_native_id()
            nicer = os.getpriority(os.PRIO_PROCESS, thread) + _NICENESS
            os.setpriority(os.PRIO_PROCESS, thread, nicer)


def _refusal(field: str, code: str, message: str) -> InvalidInput:
    return InvalidInput(InputError(("body", field), code, message))


def _words_of(email: str) -> Iterable[str]:
    local, _, domain = email.partition("@")
    parts = local.replace("+", ".").replace("-", ".").split(".")
    return (email, local, *parts, *domain.split(".")[:-1])


def _without(password: str, words: Iterable[str]) -> int:
    # How much is left of a password that is not one of these words: they count for nothing.
    for word in sorted({fold(word) for word in words}, key=len, reverse=True):
        if len(word) >= _SHORTEST_WORD:
            password = password.replace(word, "")
    return len(password)
