"""The password policy, and the thread pool that hashes passwords.

A hash takes tens of milliseconds and `argon2_memory`, so it never runs on the event loop. The pool
has `hash_concurrency` threads. Up to `hash_queue` further hashes wait in a queue that the networks
of the clients share fairly (`fair_queue`).
"""

import asyncio
import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, Protocol, TypeVar

from authapi.crypto.password_normalization import has_control_characters, opaque_string
from authapi.crypto.passwords import LOWEST_COST, Cost, PasswordHash, PasswordHasher
from authapi.domain.client import current_client
from authapi.domain.monitoring.signals import Signals
from authapi.errors import InputError, InvalidInput, Overloaded, PasswordRefused
from authapi.services.common_passwords import fold, is_common
from authapi.services.fair_queue import FairQueue
from authapi.services.jobs.free_memory import return_free_memory
from authapi.settings import Settings

T = TypeVar("T")


class BreachCheck(Protocol):
    """Checks whether a password is known from a breach."""

    async def __call__(self, password: str) -> bool:
        """Returns whether it is. Raises OSError or TimeoutError if the check fails."""

    async def close(self) -> None:
        """Closes open connections."""


_log = logging.getLogger(__name__)

_BREACH_TIMEOUT = 1.0
"""Seconds for a breach check. After that, the password counts as not breached."""
_MIN_WORD_LENGTH = 4
"""Shorter context words are ignored."""
_NICENESS = 10
_IDLE = 1.0
"""Seconds without a hash after which the threads return their memory."""
_MEETING = 0.2
"""Seconds that the threads wait for one another then."""


class Passwords:
    """The password policy, and a bounded pool of threads that hash.

    `own_rules` gets each new password in its normalized form, and the canonical address of the
    account; it raises PasswordRefused. `signals` hears of each hash and of each breach check.

    `hash` and `verify` raise RuntimeError while the pool is not started.
    """

    returns_memory = False
    """Whether the threads return the memory of their hashes when no hash has run for a second. For
    a process of our own: it sets a parameter of the allocator."""

    def __init__(
        self,
        settings: Settings,
        breached: BreachCheck | None = None,
        *,
        own_rules: Callable[[str, str], Awaitable[None]] | None = None,
        signals: Signals | None = None,
    ) -> None:
        self._settings = settings
        self._breached = breached
        self._own_rules = own_rules
        self._signals = signals or Signals()
        self._limit = settings.hash_concurrency + settings.hash_queue
        self._queue: FairQueue[_Job[Any]] = FairQueue(self._limit)
        self._pool: ThreadPoolExecutor | None = None
        self._threads: list[int] = []
        self._hasher: PasswordHasher | None = None
        self._idle_timer: asyncio.TimerHandle | None = None

    async def check_policy(
        self,
        password: str,
        *,
        email: str,
        username: str | None = None,
        field: str = "password",
    ) -> None:
        """Checks the policy for a new password of the account with this address and user name.

        Raises InvalidInput, with the location `field`, if the password contains control characters,
        is too short, too long or common, consists mostly of context words, is refused by a rule of
        the application, or is known from a breach. There are no composition rules (OWASP ASVS 6.2.1
        to 6.2.12). All rules apply to the normalized password (`crypto.password_normalization`). If
        the breach check does not answer within one second, it is skipped, with a line in the log.
        """
        if has_control_characters(password):
            message = "contains a control character"
            raise _invalid(field, "password_control_character", message)
        password = opaque_string(password)
        minimum, maximum = self._settings.password_min_length, self._settings.password_max_length
        if len(password) < minimum:
            raise _invalid(field, "password_too_short", f"at least {minimum} characters")
        if len(password) > maximum:
            raise _invalid(field, "password_too_long", f"at most {maximum} characters")
        if is_common(password):
            raise _invalid(field, "password_common", "this password is too common")
        words = [*self._settings.password_context_words, *_words_of(email)]
        if username is not None:
            words.append(username)
        if _length_without(words, fold(password)) < minimum * 2 // 3:
            message = "consists mostly of your address, your name or words of this service"
            raise _invalid(field, "password_guessable", message)
        if self._own_rules is not None:
            try:
                await self._own_rules(password, email)
            except PasswordRefused as refusal:
                raise _invalid(field, refusal.code, refusal.message) from None
        if await self._is_breached(password):
            raise _invalid(field, "password_breached", "known from a breach of another service")

    async def hash(self, password: str) -> PasswordHash:
        """Hashes `password`.

        Raises Overloaded if the queue is full or no thread can be started, ValueError if the
        password cannot be encoded as UTF-8.
        """
        return await self._run(lambda hasher: hasher.hash(password))

    async def verify(self, password: str, stored: PasswordHash | None) -> None:
        """Verifies `password` against a hash.

        None for `stored` means that there is no account, or that it has no password; the check then
        takes the same time. Raises PasswordMismatch if the password is wrong, Overloaded if the
        queue is full or no thread can be started.
        """
        await self._run(lambda hasher: hasher.verify(password, stored))

    def needs_rehash(self, stored: PasswordHash) -> bool:
        """Whether the hash is weaker than the settings require, or comes from another system.

        Raises RuntimeError before the first `start`.
        """
        if self._hasher is None:
            raise RuntimeError("authapi is not started: run the application's lifespan")
        return self._hasher.needs_rehash(stored)

    async def start(self) -> None:
        """Creates the thread pool and the hasher. May be called again after `stop`.

        The hasher computes its decoy hash here, so the first login is not slower than others.
        """
        settings = self._settings
        cost = Cost(settings.argon2_memory, settings.argon2_passes, settings.argon2_lanes)
        if settings.cheap_hashes:
            cost = LOWEST_COST
        self._hasher = await asyncio.to_thread(PasswordHasher, cost)
        self._replace_pool()

    async def stop(self) -> None:
        """Cancels waiting hashes, waits for running ones, and closes the breach check."""
        pool, self._pool = self._pool, None
        if self._idle_timer is not None:
            self._idle_timer.cancel()
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
            async with asyncio.timeout(_BREACH_TIMEOUT):
                is_breached = await self._breached(password)
        except (OSError, TimeoutError):
            _log.warning("breach check failed: new password accepted without it")
            self._signals.breach_asked("failed")
            return False
        self._signals.breach_asked("breached" if is_breached else "unknown")
        return is_breached

    @property
    def running(self) -> int:
        """Number of hashes that are being computed."""
        return min(self._pending, self._settings.hash_concurrency)

    @property
    def waiting(self) -> int:
        """Number of hashes in the queue."""
        return self._pending - self.running

    @property
    def _pending(self) -> int:
        # An entry counts until its thread has finished, even if the caller has stopped waiting: a
        # client that closes its connection does not stop its hash.
        return len(self._queue)

    async def _run(self, work: Callable[[PasswordHasher], T]) -> T:
        pool, queue = self._pool, self._queue
        if self._hasher is None or pool is None:
            raise RuntimeError("authapi is not started: run the application's lifespan")
        network, job = current_client().network, _Job(self._timed(work), self._hasher)
        is_admitted, removed = queue.put(network, job)
        if removed is not None:
            removed.reject()
        if not is_admitted:
            raise Overloaded

        def discard_if_cancelled(future: "Future[T]") -> None:
            if future.cancelled():
                queue.discard(network, job)
                job.drop()

        job.future.add_done_callback(discard_if_cancelled)
        try:
            pool.submit(_run_next, queue)
        except BaseException as error:
            # If the entry is no longer in the queue, another thread runs it or it was rejected.
            if queue.discard(network, job):
                if not isinstance(error, RuntimeError | MemoryError):
                    raise
                self._handle_missing_thread(error)
                raise Overloaded from error
        try:
            return await asyncio.wrap_future(job.future)
        finally:
            if self.returns_memory:
                self._restart_idle_timer()

    def _timed(self, work: Callable[[PasswordHasher], T]) -> Callable[[PasswordHasher], T]:
        def timed(hasher: PasswordHasher) -> T:
            begun = time.perf_counter()
            try:
                return work(hasher)
            finally:
                self._signals.hashed(time.perf_counter() - begun)

        return timed

    def _restart_idle_timer(self) -> None:
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        loop = asyncio.get_running_loop()
        self._idle_timer = loop.call_later(_IDLE, self._return_memory)

    def _return_memory(self) -> None:
        pool, count = self._pool, len(self._threads)
        if pool is None or not count:
            return
        if self._pending:  # its caller may have stopped waiting
            self._restart_idle_timer()
            return
        # Only a thread itself can return its memory, so each waits until all have such a call.
        meeting = threading.Barrier(count)
        with contextlib.suppress(RuntimeError):  # no thread can be started, or the pool has stopped
            for _ in range(count):
                pool.submit(_return_memory_of_thread, meeting)

    def _handle_missing_thread(self, error: BaseException) -> None:
        _log.error("cannot start a thread for a password hash", extra={"cause": str(error)})
        if self._pool is not None and not self._pending:
            # ThreadPoolExecutor.submit queues the work before it fails to start a thread. If the
            # pool has no other thread, the work stays in its queue, so the pool is replaced.
            self._replace_pool()

    def _replace_pool(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
        self._cancel_waiting()
        self._threads = []
        self._pool = ThreadPoolExecutor(
            self._settings.hash_concurrency,
            thread_name_prefix="hash",
            initializer=_begin_thread,
            initargs=(self._threads,),
        )
        self._queue = FairQueue(self._limit)

    def _cancel_waiting(self) -> None:
        for job in self._queue.clear():
            job.future.cancel()


class _Job(Generic[T]):
    """A call for a thread of the pool, and the future for its result."""

    def __init__(self, work: Callable[[PasswordHasher], T], hasher: PasswordHasher) -> None:
        self._work: Callable[[PasswordHasher], T] | None = work
        self._hasher = hasher
        self.future: Future[T] = Future()

    def run(self, finish: Callable[[], None]) -> None:
        """Runs the call unless it was cancelled. Calls `finish` before it sets the result."""
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
        """Releases the call, and with it the password."""
        self._work = None

    def reject(self) -> None:
        """Makes the future of the caller raise Overloaded."""
        self.drop()
        if self.future.set_running_or_notify_cancel():
            self.future.set_exception(Overloaded())


def _run_next(queue: FairQueue[_Job[Any]]) -> None:
    """Runs the next job of the queue, in a thread of the pool."""
    if (taken := queue.take()) is not None:
        job, finish = taken
        job.run(finish)


def _return_memory_of_thread(meeting: threading.Barrier) -> None:
    try:
        number = meeting.wait(_MEETING)
    except threading.BrokenBarrierError:  # another thread has begun a hash
        number = 0
    return_free_memory(of_all_heaps=number == 0)


def _begin_thread(threads: list[int]) -> None:
    threads.append(threading.get_native_id())
    _lower_priority()


def _lower_priority() -> None:
    # On Linux, each thread has its own niceness. Without this, hashes of many logins would compete
    # for the cores with the event loop, which serves all other requests.
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            thread = threading.get_native_id()
            niceness = os.getpriority(os.PRIO_PROCESS, thread) + _NICENESS
            os.setpriority(os.PRIO_PROCESS, thread, niceness)


def _invalid(field: str, code: str, message: str) -> InvalidInput:
    return InvalidInput(InputError(("body", field), code, message))


def _words_of(email: str) -> Iterable[str]:
    local, _, domain = email.partition("@")
    parts = local.replace("+", ".").replace("-", ".").split(".")
    return (email, local, *parts, *domain.split(".")[:-1])


def _length_without(words: Iterable[str], password: str) -> int:
    """The length of `password` after all occurrences of `words` are removed."""
    for word in sorted({fold(word) for word in words}, key=len, reverse=True):
        if len(word) >= _MIN_WORD_LENGTH:
            password = password.replace(word, "")
    return len(password)
