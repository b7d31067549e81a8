"""The hashing pool: off the event loop, bounded, and every place is freed in the end."""

import asyncio
import os
import sys
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor

import anyio
import pytest

from authapi import create_app
from authapi.crypto.passwords import Cost, PasswordHash, imported_hash
from authapi.errors import InvalidInput, Overloaded, PasswordMismatch
from authapi.services import passwords as module
from authapi.services.passwords import Passwords
from authapi.settings import Settings
from authapi.testing import PASSWORD, client
from tests.conftest import SettingsFactory
from tests.crypto.imported_hash_vectors import DEFAULT
from tests.crypto.imported_hash_vectors import PASSWORD as FOREIGN_PASSWORD

pytestmark = pytest.mark.real_hashes


class Hasher:
    """Hashes until the test releases it, and records the threads."""

    def __init__(self, _: Cost) -> None:
        self.go_on = threading.Event()
        self.lock = threading.Lock()
        self.working = 0
        self.most = 0
        self.begun: list[str] = []
        self.threads: set[str] = set()
        self.niceness: set[int] = set()

    def hash(self, password: str) -> PasswordHash:
        with self.lock:
            self.begun.append(password)
            self.threads.add(threading.current_thread().name)
            self.niceness.add(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
            self.working += 1
            self.most = max(self.most, self.working)
        let_go = self.go_on.wait(timeout=30)
        with self.lock:
            self.working -= 1
        assert let_go, "the event loop was blocked while a password was hashed"
        return PasswordHash(password)

    def verify(self, password: str, stored: PasswordHash | None) -> None:
        raise PasswordMismatch

    def needs_rehash(self, stored: PasswordHash) -> bool:
        return False


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(20):
        while not condition():  # noqa: ASYNC110  # the condition changes in threads
            await asyncio.sleep(0.001)


@pytest.fixture
async def pool(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Passwords]:
    """Two threads and three waiting places."""
    monkeypatch.setattr(module, "PasswordHasher", Hasher)
    passwords = Passwords(Settings(hash_concurrency=2, hash_queue=3))
    await passwords.start()
    yield passwords
    hasher(passwords).go_on.set()
    await passwords.stop()


def hasher(passwords: Passwords) -> Hasher:
    found: object = passwords._hasher
    assert isinstance(found, Hasher)
    return found


def begin(pool: Passwords, count: int, first: int = 0) -> list[asyncio.Task[PasswordHash]]:
    return [asyncio.create_task(pool.hash(str(n))) for n in range(first, first + count)]


async def test_hashing_does_not_block_the_event_loop(pool: Passwords) -> None:
    [task] = begin(pool, 1)
    await until(lambda: hasher(pool).working == 1)
    for _ in range(100):
        await asyncio.sleep(0)
    assert not task.done()
    hasher(pool).go_on.set()
    assert await task == PasswordHash("0")
    [name] = hasher(pool).threads
    assert name.startswith("hash")
    assert name != threading.current_thread().name


async def test_number_of_concurrent_hashes_is_bounded(pool: Passwords) -> None:
    tasks = begin(pool, 5)
    await until(lambda: hasher(pool).working == 2)
    assert len(hasher(pool).begun) == 2
    hasher(pool).go_on.set()
    assert await asyncio.gather(*tasks) == [PasswordHash(str(n)) for n in range(5)]
    assert hasher(pool).most == 2
    assert len(hasher(pool).threads) == 2


async def test_hashing_threads_have_a_lower_priority_than_the_event_loop(pool: Passwords) -> None:
    own = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    hasher(pool).go_on.set()
    await asyncio.gather(*begin(pool, 4))
    behind = min(own + 10, 19) if sys.platform == "linux" else own
    assert hasher(pool).niceness == {behind}, "the niceness of each thread of the pool"
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == own


async def test_full_queue_rejects_at_once(pool: Passwords) -> None:
    tasks = begin(pool, 5)
    await until(lambda: hasher(pool).working == 2)
    for attempt in (pool.hash("x"), pool.verify("x", None)):
        with pytest.raises(Overloaded):
            await attempt
    # `needs_rehash` needs no place in the queue: it must not reject a verified login.
    assert not pool.needs_rehash(PasswordHash(""))
    hasher(pool).go_on.set()
    await asyncio.gather(*tasks)
    # All places are free again, and their number has not changed.
    hasher(pool).go_on.clear()
    tasks = begin(pool, 6, first=10)
    await until(lambda: hasher(pool).working == 2)
    await until(tasks[5].done)
    assert isinstance(tasks[5].exception(), Overloaded)
    hasher(pool).go_on.set()
    await asyncio.gather(*tasks[:5])


async def test_cancelled_caller_keeps_its_place_until_the_hash_is_done(
    pool: Passwords,
) -> None:
    tasks = begin(pool, 2)
    await until(lambda: hasher(pool).working == 2)
    tasks += begin(pool, 3, first=2)
    await asyncio.sleep(0)
    for task in tasks[:2]:
        task.cancel()
    await asyncio.wait(tasks[:2])
    # Their threads are still hashing, so the memory is still in use.
    with pytest.raises(Overloaded):
        await pool.hash("x")
    hasher(pool).go_on.set()
    await asyncio.gather(*tasks[2:])
    await until(lambda: pool._pending == 0)
    assert await asyncio.gather(*begin(pool, 5)) == [PasswordHash(str(n)) for n in range(5)]


async def test_caller_cancelled_while_waiting_frees_its_place(pool: Passwords) -> None:
    running = begin(pool, 2)
    await until(lambda: hasher(pool).working == 2)
    waiting = begin(pool, 3, first=2)
    await asyncio.sleep(0)
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)
    again = begin(pool, 3, first=10)
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await pool.hash("x")
    hasher(pool).go_on.set()
    await asyncio.gather(*running, *again)
    assert sorted(hasher(pool).begun) == ["0", "1", "10", "11", "12"]


async def test_failed_hash_frees_its_place(pool: Passwords) -> None:
    for _ in range(20):
        with pytest.raises(PasswordMismatch):
            await pool.verify("x", None)
        with pytest.raises(ZeroDivisionError):
            await pool._run(lambda _: 1 // 0)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("can't start new thread"),
        RuntimeError("cannot schedule new futures after shutdown"),
        MemoryError(),
    ],
    ids=["no-thread", "shut-down", "no-memory"],
)
@pytest.mark.parametrize("method", ["start", "submit"])
async def test_failure_to_start_a_thread_frees_the_place(
    pool: Passwords, monkeypatch: pytest.MonkeyPatch, error: Exception, method: str
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise error

    hasher(pool).go_on.set()
    owner = threading.Thread if method == "start" else ThreadPoolExecutor
    with monkeypatch.context() as patch:
        patch.setattr(owner, method, fails)
        for _ in range(3 * pool._limit):
            with pytest.raises(Overloaded):
                await pool.hash("refused")
            with pytest.raises(Overloaded):
                await pool.verify("refused", None)
            assert (pool.running, pool.waiting, pool._pending) == (0, 0, 0)
    tasks = begin(pool, 5)
    assert await asyncio.gather(*tasks) == [PasswordHash(str(n)) for n in range(5)]
    assert sorted(hasher(pool).begun) == [*"01234"], "rejected work is not hashed later"
    assert pool._pending == 0


async def test_failure_to_start_a_second_thread_does_not_stop_the_first(
    pool: Passwords, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: object) -> None:
        raise RuntimeError("can't start new thread")

    [first] = begin(pool, 1)
    await until(lambda: hasher(pool).working == 1)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fails)
        for _ in range(10):
            with pytest.raises(Overloaded):
                await pool.hash("refused")
    assert pool._pending == 1
    hasher(pool).go_on.set()
    assert await first == PasswordHash("0")
    assert await asyncio.gather(*begin(pool, 5, first=1)) == [
        PasswordHash(str(n)) for n in range(1, 6)
    ]
    assert "refused" not in hasher(pool).begun
    await until(lambda: pool._pending == 0)


async def test_stop_ends_all_threads(pool: Passwords) -> None:
    before = threading.active_count()
    hasher(pool).go_on.set()
    await asyncio.gather(*begin(pool, 4))
    assert any(thread.name.startswith("hash") for thread in threading.enumerate())
    await pool.stop()
    assert not any(thread.name.startswith("hash") for thread in threading.enumerate())
    assert (
        threading.active_count() <= before + 1
    )  # the executor thread of the event loop, which waited
    with pytest.raises(RuntimeError, match="lifespan"):
        await pool.hash("x")


async def test_use_before_start_raises_runtime_error() -> None:
    with pytest.raises(RuntimeError, match="lifespan"):
        await Passwords(Settings()).hash("x")


async def test_imported_hashes_are_verified_in_the_same_pool() -> None:
    passwords = Passwords(Settings(hash_concurrency=1, hash_queue=0))
    await passwords.start()
    stored = imported_hash(DEFAULT["Werkzeug: scrypt"])
    work = [passwords.verify(FOREIGN_PASSWORD, stored) for _ in range(2)]
    done = await asyncio.gather(*work, return_exceptions=True)
    assert [type(result) for result in done] == [type(None), Overloaded]
    assert passwords.needs_rehash(stored)
    await passwords.stop()


async def test_hash_has_the_cost_of_the_settings() -> None:
    passwords = Passwords(Settings(argon2_memory=20000, argon2_passes=3, argon2_lanes=2))
    await passwords.start()
    assert "$m=20000,t=3,p=2$" in (await passwords.hash(PASSWORD)).text
    assert not passwords.needs_rehash(await passwords.hash(PASSWORD))
    await passwords.stop()


@pytest.mark.parametrize(
    ("password", "code"),
    [
        ("x" * 14, "password_too_short"),
        ("", "password_too_short"),
        ("é" * 14, "password_too_short"),
        ("🐎" * 14, "password_too_short"),
        ("wqmzrtkvbnpyxjh", None),
        ("🐎🐄🐖🐏🐐🐕🐈🐓🦆🦢🦉🐇🦔🐁🐿", None),
        (" a b c d e f g ", None),
        ("wqmzrtkvbnpy" + "xjhgcfdl" * 126 + "abcd", None),
        ("x" * 1025, "password_too_long"),
    ],
    ids=range(9),
)
async def test_length_limits_count_characters(password: str, code: str | None) -> None:
    policy = Passwords(Settings())
    if code is None:
        await policy.check_policy(password, email="a@example.com")
        return
    with pytest.raises(InvalidInput) as caught:
        await policy.check_policy(password, email="a@example.com", field="new_password")
    [problem] = caught.value.errors
    assert (problem.loc, problem.code) == (("body", "new_password"), code)


def _text(length: int) -> str:
    # A repeated character would be rejected by another rule.
    return ("wqmzrtkvbnpy" + "xjhgcfdlsaoe" * 100)[:length]


async def test_length_limits_come_from_settings() -> None:
    policy = Passwords(Settings(password_min_length=8, password_max_length=64))
    await policy.check_policy(_text(8), email="a@example.com")
    await policy.check_policy(_text(64), email="a@example.com")
    for length in (7, 65):
        with pytest.raises(InvalidInput):
            await policy.check_policy(_text(length), email="a@example.com")


async def test_full_queue_is_answered_503(make_settings: SettingsFactory) -> None:
    async with client(create_app(make_settings(hash_concurrency=1, hash_queue=0))) as api:
        body = {"email": "unknown@example.com", "password": PASSWORD}
        answers = await asyncio.gather(*(api.post("/login", json=body) for _ in range(2)))
    refused, overloaded = sorted(answers, key=lambda answer: answer.status_code)
    assert (refused.status_code, overloaded.status_code) == (401, 503)
    assert overloaded.json()["code"] == "overloaded"
    assert int(overloaded.headers["retry-after"]) >= 1


async def test_cheap_hashes_are_replaced_when_the_setting_is_off(
    make_settings: SettingsFactory,
) -> None:
    cheap, dear = Passwords(make_settings(cheap_hashes=True)), Passwords(make_settings())
    await cheap.start()
    await dear.start()
    try:
        stored = await cheap.hash(PASSWORD)
        assert stored.text.startswith("$argon2id$v=19$m=8,t=1,p=1$")
        assert not cheap.needs_rehash(stored)
        await dear.verify(PASSWORD, stored)
        assert dear.needs_rehash(stored)
        assert (await dear.hash(PASSWORD)).text.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    finally:
        await cheap.stop()
        await dear.stop()


async def test_each_thread_returns_its_memory_when_no_hash_has_run_for_a_while(
    pool: Passwords, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, bool]] = []

    def record(*, of_all_heaps: bool) -> None:
        calls.append((threading.current_thread().name, of_all_heaps))

    monkeypatch.setattr(module, "return_free_memory", record)
    monkeypatch.setattr(module, "_IDLE", 0.05)
    pool.returns_memory = True
    cancelled, _ = begin(pool, 2)
    await until(lambda: hasher(pool).working == 2)
    cancelled.cancel()  # its thread goes on, and the timer begins
    await asyncio.sleep(0.2)
    assert calls == [], "no thread returns memory while another hashes"
    hasher(pool).go_on.set()
    await until(lambda: len(calls) == 2)
    assert {name for name, _ in calls} == hasher(pool).threads
    assert sorted(of_all for _, of_all in calls) == [False, True]
    await pool.hash("later")
    await until(lambda: len(calls) == 4)


async def test_a_pool_of_an_application_keeps_its_memory(
    pool: Passwords, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The parameters of the allocator belong to the application.
    calls: list[object] = []
    monkeypatch.setattr(module, "return_free_memory", lambda **_: calls.append(1))
    monkeypatch.setattr(module, "_IDLE", 0.0)
    hasher(pool).go_on.set()
    await pool.hash("a")
    await asyncio.sleep(0.1)
    assert calls == []
