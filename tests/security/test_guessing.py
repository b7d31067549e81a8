"""Password guessing over HTTP: which attempts are verified, and which are rejected."""

import asyncio
import base64
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta

import httpx
import pytest
import sqlalchemy

from authapi.crypto.passwords import PasswordHash, PasswordHasher
from authapi.domain.email_address import parse_email
from authapi.testing import PASSWORD
from tests.clocks import travel_to
from tests.conftest import SettingsFactory
from tests.security.attack import count_verifications
from tests.security.peers import WRONG, Service, comparable, guess, serving
from tests.servers.valkey import ValkeyServer

VICTIM = "victim@example.com"
MALLORY = "mallory@example.com"
A, B = "192.0.2.1", "198.51.100.1"
PROXY = "10.0.0.1"
NOON = datetime(2031, 5, 6, 12, tzinfo=UTC)

Start = Callable[..., Awaitable[Service]]


@pytest.fixture
async def start(make_settings: SettingsFactory) -> AsyncIterator[Start]:
    """Starts the application with changed settings. The victim has an account."""
    async with AsyncExitStack() as stack:
        started: list[Service] = []

        async def run(**changes: object) -> Service:
            service = await stack.enter_async_context(serving(make_settings(**changes)))
            if not started:
                await service.api.create_user(VICTIM)
                await service.api.create_user(MALLORY)
            started.append(service)
            return service

        yield run


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The passwords that were hashed, in order."""
    return count_verifications(monkeypatch)


class Gate:
    """Blocks every verification until `open` is called."""

    def __init__(self) -> None:
        self._open = threading.Event()
        self._loop = asyncio.get_running_loop()
        self._entered = asyncio.Semaphore(0)

    def hold(self) -> None:
        self._loop.call_soon_threadsafe(self._entered.release)
        assert self._open.wait(30)

    async def entered(self) -> None:
        """Return when another verification has begun."""
        async with asyncio.timeout(30):
            await self._entered.acquire()

    def open(self) -> None:
        self._open.set()


@pytest.fixture
async def gate(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Gate]:
    held = Gate()
    verify = PasswordHasher.verify

    def waiting(self: PasswordHasher, password: str, stored: PasswordHash | None) -> None:
        held.hold()
        verify(self, password, stored)

    monkeypatch.setattr(PasswordHasher, "verify", waiting)
    yield held
    held.open()


async def codes(answers: AsyncIterator[httpx.Response]) -> list[int]:
    return [answer.status_code async for answer in answers]


async def guesses(
    visitor: httpx.AsyncClient, number: int, email: str = VICTIM
) -> AsyncIterator[httpx.Response]:
    for _ in range(number):
        yield await guess(visitor, email)


def events(url: str) -> list[tuple[str, str]]:
    """Type and IP address of all recorded events, in order."""
    path = sqlalchemy.make_url(url).database
    assert path is not None
    connection = sqlite3.connect(path)
    try:
        return connection.execute("select type, ip from authapi_events order by id").fetchall()
    finally:
        connection.close()


async def test_v2_4_1_eleventh_failed_login_in_a_minute_is_not_hashed(
    start: Start, verified: list[str]
) -> None:
    service = await start()
    assert await codes(guesses(service.at(A), 10)) == [401] * 10
    refusal = await guess(service.at(A), VICTIM, PASSWORD)
    assert refusal.status_code == 429
    assert refusal.json()["code"] == "too_many_attempts"
    assert refusal.headers["content-type"] == "application/problem+json"
    assert 1 <= int(refusal.headers["retry-after"]) <= 60
    assert verified == [WRONG] * 10


async def test_v6_1_1_guesses_do_not_lock_out_the_owner(start: Start) -> None:
    service = await start()
    assert await codes(guesses(service.at(A), 20)) == [401] * 10 + [429] * 10
    assert (await guess(service.at(A), VICTIM, PASSWORD)).status_code == 429
    assert (await guess(service.at(B), VICTIM, PASSWORD)).status_code == 200


async def test_v6_3_1_guesses_at_one_account_from_many_networks_are_limited(
    start: Start, verified: list[str]
) -> None:
    service = await start(limit_account="5/hour", trusted_proxies="10.0.0.0/8")
    proxy = service.at(PROXY)
    answers = [
        (await guess(proxy, VICTIM, **{"x-forwarded-for": f"203.0.113.{number}"})).status_code
        for number in range(1, 21)
    ]
    assert answers == [401] * 5 + [429] * 15
    assert len(verified) == 5
    # A client at one of these addresses can still log in to another account.
    assert (await guess(service.at("203.0.113.20"), MALLORY, PASSWORD)).status_code == 200


async def test_v6_3_1_guesses_at_many_accounts_from_one_network_are_limited(
    start: Start, verified: list[str]
) -> None:
    service = await start(limit_network="5/minute")
    answers = [
        (await guess(service.at(A), f"someone{number}@example.com")).status_code
        for number in range(20)
    ]
    assert answers == [401] * 5 + [429] * 15
    assert len(verified) == 5
    assert (await guess(service.at(B), VICTIM, PASSWORD)).status_code == 200


async def test_guesses_at_many_accounts_from_many_networks_are_limited(
    start: Start, verified: list[str]
) -> None:
    service = await start(limit_total="5/minute")
    answers = [
        (await guess(service.at(f"203.0.113.{number}"), f"someone{number}@example.com")).status_code
        for number in range(20)
    ]
    assert answers == [401] * 5 + [429] * 15
    assert len(verified) == 5


async def basic(visitor: httpx.AsyncClient, password: str) -> httpx.Response:
    pair = base64.b64encode(f"{VICTIM}:{password}".encode()).decode()
    return await visitor.get("/me", headers={"authorization": f"Basic {pair}"})


async def password_grant(visitor: httpx.AsyncClient, password: str) -> httpx.Response:
    form = {"grant_type": "password", "username": VICTIM, "password": password}
    return await visitor.post("/token", data=form)


async def login_by(visitor: httpx.AsyncClient, password: str, strategy: str) -> httpx.Response:
    body = {"email": VICTIM, "password": password, "strategy": strategy}
    return await visitor.post("/login", json=body)


async def change_password(visitor: httpx.AsyncClient, password: str) -> httpx.Response:
    body = {"current_password": password, "new_password": "another good long passphrase"}
    return await visitor.post("/me/password", json=body)


Way = Callable[[httpx.AsyncClient, str], Awaitable[httpx.Response]]
WAYS: dict[str, tuple[Way, int]] = {
    "login session": (lambda visitor, password: login_by(visitor, password, "session"), 401),
    "login token": (lambda visitor, password: login_by(visitor, password, "token"), 401),
    "login jwt": (lambda visitor, password: login_by(visitor, password, "jwt"), 401),
    "basic": (basic, 401),
    "password grant": (password_grant, 400),
    "password change": (change_password, 403),
}
"""Each operation that verifies a password, and the status for a wrong one."""


@pytest.mark.parametrize("way", WAYS)
async def test_row_47_every_password_check_is_limited(
    start: Start, verified: list[str], way: str
) -> None:
    service = await start(
        limit_account_and_network="3/minute", strategies="session,token,jwt,basic"
    )
    attempt, wrong = WAYS[way]
    visitor = service.at(A)
    assert (await login_by(visitor, PASSWORD, "session")).status_code == 200
    verified.clear()
    for _ in range(3):
        assert (await attempt(visitor, WRONG)).status_code == wrong
    for password in (PASSWORD, WRONG):
        refusal = await attempt(visitor, password)
        assert refusal.status_code == 429
        assert refusal.json()["code"] == "too_many_attempts"
        assert int(refusal.headers["retry-after"]) >= 1
        assert "www-authenticate" not in refusal.headers
    assert verified == [WRONG] * 3


async def test_row_47_all_login_methods_share_one_limit(start: Start, verified: list[str]) -> None:
    # Changes of a password by an authenticated user count separately (test_owner_gets_in).
    ways = {name: way for name, way in WAYS.items() if name != "password change"}
    service = await start(
        limit_account_and_network=f"{len(ways)}/minute", strategies="session,token,jwt,basic"
    )
    visitor = service.at(A)
    assert (await login_by(visitor, PASSWORD, "session")).status_code == 200
    verified.clear()
    for attempt, wrong in ways.values():
        assert (await attempt(visitor, WRONG)).status_code == wrong
    for attempt, _ in ways.values():
        assert (await attempt(visitor, PASSWORD)).status_code == 429
    assert len(verified) == len(ways)


async def test_row_47_expired_bearer_token_does_not_count_as_a_guess(start: Start) -> None:
    service = await start(limit_total="1/minute")
    for _ in range(3):
        answer = await service.at(A).get("/me", headers={"authorization": "Bearer aat_x"})
        assert answer.status_code == 401
    assert (await guess(service.at(A), VICTIM, PASSWORD)).status_code == 200


async def test_registrations_are_limited_before_hashing(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = await start(limit_registrations="3/minute", limit_total="5/minute")
    hashed: list[str] = []
    original = PasswordHasher.hash

    def counted(self: PasswordHasher, password: str) -> PasswordHash:
        hashed.append(password)
        return original(self, password)

    monkeypatch.setattr(PasswordHasher, "hash", counted)

    async def register(visitor: httpx.AsyncClient, name: str) -> httpx.Response:
        return await visitor.post(
            "/register", json={"email": f"{name}@example.com", "password": PASSWORD}
        )

    first = [await register(service.at(A), f"a{number}") for number in range(5)]
    assert [answer.status_code for answer in first] == [201] * 3 + [429] * 2
    assert int(first[-1].headers["retry-after"]) >= 1
    # For a throttled client, a taken address and a free one get the same response.
    assert comparable(await register(service.at(A), "a0")) == comparable(first[-1])
    second = [await register(service.at(B), f"b{number}") for number in range(3)]
    assert [answer.status_code for answer in second] == [201, 201, 429]
    assert len(hashed) == 5


async def test_row_50_untrusted_forwarded_headers_are_ignored(
    start: Start, verified: list[str]
) -> None:
    service = await start(trusted_proxies="10.0.0.0/8")
    answers = [
        (
            await guess(
                service.at(A),
                VICTIM,
                **{
                    "x-forwarded-for": f"203.0.113.{number}",
                    "x-real-ip": f"203.0.113.{number}",
                    "forwarded": f"for=203.0.113.{number}",
                    "x-client-ip": f"203.0.113.{number}",
                    "cf-connecting-ip": f"203.0.113.{number}",
                },
            )
        ).status_code
        for number in range(20)
    ]
    assert answers == [401] * 10 + [429] * 10
    assert len(verified) == 10
    written = events(service.database)
    assert {ip for kind, ip in written if kind in ("login_refused", "throttled")} == {A}


async def test_row_50_clients_without_an_address_share_one_counter(start: Start) -> None:
    service = await start(limit_network="4/minute")
    peers: list[str | None] = [None, "", "/run/authapi.sock", "testclient", None, ""]
    answers = [
        (await guess(service.at(peer), f"someone{number}@example.com")).status_code
        for number, peer in enumerate(peers)
    ]
    assert answers == [401] * 4 + [429] * 2
    assert (await guess(service.at(A), VICTIM, PASSWORD)).status_code == 200


async def test_row_51_all_spellings_of_an_address_share_one_counter(
    start: Start, verified: list[str]
) -> None:
    service = await start()
    await service.api.create_user("victim@bücher.example.com")
    spellings = [
        "victim@bücher.example.com",
        "VICTIM@bücher.example.com",
        "victim@bücher.EXAMPLE.com",
        "victim@xn--bcher-kva.example.com",
        "Victim@XN--BCHER-KVA.Example.COM",
    ]
    other_forms = [
        "victim@BÜCHER.example.com",
        " victim@bücher.example.com",
        "victim@bücher.example.com ",
        "victim@bücher.example.com.",
        "victim@bu\u0308cher.example.com",
        "ｖictim@bücher.example.com",
        "victim@bücher。example.com",
        "Victim <victim@bücher.example.com>",
        "victim@bücher.example.com\x00",
    ]
    for _ in range(2):
        for spelling in spellings:
            assert (await guess(service.at(A), spelling)).status_code == 401
    assert len(verified) == 10
    for spelling in spellings:
        assert (await guess(service.at(A), spelling)).status_code == 429
    for form in other_forms:
        assert (await guess(service.at(A), form)).status_code in (400, 422, 429)
    assert len(verified) == 10


async def test_row_52_success_does_not_reset_the_network_counter(start: Start) -> None:
    service = await start(limit_network="5/minute", limit_account_and_network="100/minute")
    visitor = service.at(A)
    assert await codes(guesses(visitor, 4)) == [401] * 4
    for _ in range(3):
        assert (await guess(visitor, MALLORY, PASSWORD)).status_code == 200
    assert await codes(guesses(visitor, 2)) == [401, 429]


async def test_row_52_success_does_not_reset_another_account(start: Start) -> None:
    service = await start()
    visitor = service.at(A)
    assert await codes(guesses(visitor, 9)) == [401] * 9
    assert (await guess(visitor, MALLORY, PASSWORD)).status_code == 200
    assert await codes(guesses(visitor, 2)) == [401, 429]


async def test_row_52_success_does_not_reset_its_own_account(start: Start) -> None:
    # Otherwise the logins of the owner, by a script each minute, would allow more guesses.
    service = await start()
    visitor = service.at(A)
    assert await codes(guesses(visitor, 9)) == [401] * 9
    assert (await guess(visitor, VICTIM, PASSWORD)).status_code == 200
    assert await codes(guesses(visitor, 2)) == [401, 429]


async def test_row_53_ipv6_network_is_one_client(start: Start, verified: list[str]) -> None:
    service = await start()
    answers = [
        (await guess(service.at(f"2001:db8:0:1:{number:x}::{number:x}"), VICTIM)).status_code
        for number in range(1, 21)
    ]
    assert answers == [401] * 10 + [429] * 10
    assert len(verified) == 10
    neighbour = service.at("2001:db8:0:2::1")
    assert (await guess(neighbour, VICTIM, PASSWORD)).status_code == 200


async def test_row_53_ipv4_mapped_address_is_its_ipv4_address(start: Start) -> None:
    service = await start(limit_account_and_network="4/minute")
    peers = ["::ffff:192.0.2.1", "192.0.2.1", "::ffff:c000:201", "192.0.2.1", "::FFFF:192.0.2.1"]
    answers = [(await guess(service.at(peer), VICTIM)).status_code for peer in peers]
    assert answers == [401] * 4 + [429]
    assert (await guess(service.at("::ffff:192.0.2.2"), VICTIM, PASSWORD)).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "//login",
        "/./login",
        "/x/../login",
        "/login/",
        "/login/.",
        "/LOGIN",
        "/Login",
        "/login;x=1",
        "/login%2f",
        "/%2flogin",
        "/%2e/login",
        "/login%00",
        "/login%20",
        "/login?x=1",
        "/%6cogin",
        "/login#x",
        "/api/login",
    ],
)
async def test_row_54_other_paths_do_not_bypass_the_limit(
    start: Start, verified: list[str], path: str
) -> None:
    service = await start(limit_account_and_network="2/minute")
    assert await codes(guesses(service.at(A), 2)) == [401, 401]
    body = {"email": VICTIM, "password": PASSWORD}
    answer = await service.at(A).post(f"{service.base_url}{path}", json=body)
    assert answer.status_code in (404, 429)
    assert "location" not in answer.headers
    assert len(verified) == 2


@pytest.mark.real_hashes
async def test_row_55_hundred_concurrent_guesses_cost_ten_hashes(
    start: Start, verified: list[str]
) -> None:
    service = await start()
    visitor = service.at(A)
    answers = await asyncio.gather(*(guess(visitor, VICTIM) for _ in range(100)))
    statuses = [answer.status_code for answer in answers]
    assert (statuses.count(401), statuses.count(429)) == (10, 90)
    assert len(verified) == 10
    assert (await guess(visitor, VICTIM, PASSWORD)).status_code == 429


@pytest.mark.real_hashes
async def test_row_55_right_password_among_a_hundred_guesses_is_not_found(
    start: Start, verified: list[str]
) -> None:
    service = await start()
    visitor = service.at(A)
    tries = [WRONG] * 10 + [PASSWORD] * 90
    answers = await asyncio.gather(*(guess(visitor, VICTIM, password) for password in tries))
    assert len(verified) == 10
    assert not any(answer.status_code == 200 for answer in answers)


async def test_concurrent_successful_logins_do_not_block_others(start: Start, gate: Gate) -> None:
    service = await start(limit_account_and_network="3/minute", hash_concurrency=3)
    visitor = service.at(A)
    first = [asyncio.create_task(guess(visitor, VICTIM, PASSWORD)) for _ in range(3)]
    for _ in first:
        await gate.entered()
    assert await codes(guesses(visitor, 20)) == [429] * 20
    gate.open()
    assert [answer.status_code for answer in await asyncio.gather(*first)] == [200] * 3
    assert (await guess(visitor, VICTIM, PASSWORD)).status_code == 200


async def test_rejection_does_not_reveal_whether_the_account_exists(start: Start) -> None:
    service = await start(limit_account_and_network="2/minute")
    await service.api.create_user("sleeper@example.com")
    sleeper = await service.api.services.accounts.profiles.find_by_email(
        parse_email("sleeper@example.com")
    )
    await service.api.services.accounts.administration.change(sleeper.id, {"is_active": False})
    await service.api.services.accounts.registration.create(parse_email("guest@example.com"), None)
    emails = [VICTIM, "unknown@example.com", "sleeper@example.com", "guest@example.com"]
    with travel_to(NOON):
        for email in emails:
            assert await codes(guesses(service.at(A), 2, email)) == [401, 401]
        refusals = [await guess(service.at(A), email) for email in emails]
        refusals.append(await guess(service.at(A), VICTIM, PASSWORD))
    assert refusals[0].status_code == 429
    assert {refusal.headers["retry-after"] for refusal in refusals} == {"60"}
    assert all(comparable(refusal) == comparable(refusals[0]) for refusal in refusals)


async def test_rejection_lasts_one_minute(start: Start) -> None:
    service = await start()
    with travel_to(NOON) as clock:
        assert await codes(guesses(service.at(A), 11)) == [401] * 10 + [429]
        clock.shift(timedelta(seconds=59))
        refusal = await guess(service.at(A), VICTIM, PASSWORD)
        assert (refusal.status_code, refusal.headers["retry-after"]) == (429, "1")
        clock.shift(timedelta(seconds=1))
        assert (await guess(service.at(A), VICTIM, PASSWORD)).status_code == 200
        assert await codes(guesses(service.at(A), 11)) == [401] * 10 + [429]


async def test_closed_connection_does_not_save_an_attempt(start: Start, gate: Gate) -> None:
    service = await start(limit_account_and_network="2/minute", hash_concurrency=2)
    visitor = service.at(A)
    for _ in range(2):
        attempt = asyncio.create_task(guess(visitor, VICTIM))
        await gate.entered()
        attempt.cancel()
        with pytest.raises(asyncio.CancelledError):
            await attempt
    gate.open()
    assert (await guess(visitor, VICTIM, PASSWORD)).status_code == 429


async def test_attempt_rejected_for_overload_is_not_counted(start: Start, gate: Gate) -> None:
    service = await start(limit_account_and_network="3/minute", hash_concurrency=1, hash_queue=0)
    visitor = service.at(A)
    attempt = asyncio.create_task(guess(visitor, VICTIM))
    await gate.entered()
    for _ in range(5):
        answer = await guess(visitor, VICTIM)
        assert (answer.status_code, answer.json()["code"]) == (503, "overloaded")
        assert int(answer.headers["retry-after"]) >= 1
    gate.open()
    assert (await attempt).status_code == 401
    assert await codes(guesses(visitor, 3)) == [401, 401, 429]


async def test_read_only_database_makes_no_guess_free(start: Start, verified: list[str]) -> None:
    service = await start(limit_account_and_network="3/minute", database_timeout=0.01)
    path = sqlalchemy.make_url(service.database).database
    assert path is not None
    writer = sqlite3.connect(path, isolation_level=None)
    try:
        writer.execute("begin immediate")
        assert await codes(guesses(service.at(A), 5)) == [401] * 3 + [429] * 2
    finally:
        writer.close()
    assert len(verified) == 3


async def test_throttling_is_recorded_once_for_each_network(start: Start) -> None:
    service = await start(limit_network="1/minute", limit_registrations="1/minute")
    peers = [A, B, *(f"2001:db8:0:1::{number}" for number in range(1, 4))]
    for _ in range(4):
        for peer in peers:
            await guess(service.at(peer), VICTIM)
            for name in ("x", "y"):
                body = {"email": f"{name}@example.com", "password": PASSWORD}
                await service.at(peer).post("/register", json=body)
    written = events(service.database)
    assert [ip for kind, ip in written if kind == "throttled"][:2] == [A, B]
    assert len([ip for kind, ip in written if kind == "throttled"]) == 3


@pytest.fixture
def long_redis_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents time-outs on a busy machine: the storage must not count as unavailable."""
    monkeypatch.setattr("authapi.services.rate_limit_storage._REDIS_TIMEOUT", 30)


@pytest.fixture
def bound() -> Iterator[None]:
    """The test takes less than ten seconds: nothing waits for an unavailable storage."""
    began = time.monotonic()
    yield
    assert time.monotonic() - began < 10


@pytest.mark.usefixtures("long_redis_timeout")
async def test_two_processes_share_limits_through_one_storage(
    start: Start, valkey: ValkeyServer, verified: list[str]
) -> None:
    one = await start(redis_url=valkey.url)
    two = await start(redis_url=valkey.url)
    answers = [(await guess(service.at(A), VICTIM)).status_code for service in (one, two) * 10]
    assert answers == [401] * 10 + [429] * 10
    assert len(verified) == 10
    refusal = await guess(two.at(A), VICTIM, PASSWORD)
    assert 1 <= int(refusal.headers["retry-after"]) <= 60
    assert (await guess(two.at(B), VICTIM, PASSWORD)).status_code == 200


@pytest.mark.real_hashes
@pytest.mark.usefixtures("long_redis_timeout")
async def test_hundred_concurrent_guesses_at_two_processes_cost_ten_hashes(
    start: Start, valkey: ValkeyServer, verified: list[str]
) -> None:
    visitors = [(await start(redis_url=valkey.url)).at(A) for _ in range(2)]
    answers = await asyncio.gather(*(guess(visitor, VICTIM) for visitor in visitors * 50))
    statuses = [answer.status_code for answer in answers]
    assert (statuses.count(401), statuses.count(429)) == (10, 90)
    assert len(verified) == 10


@pytest.mark.usefixtures("bound")
async def test_limits_hold_while_the_shared_storage_is_unavailable(
    start: Start, valkey: ValkeyServer, verified: list[str]
) -> None:
    limits = {"redis_url": valkey.url, "limit_account_and_network": "3/minute"}
    services = [await start(**limits), await start(**limits)]
    one, two = (service.at(A) for service in services)
    assert await codes(guesses(one, 1)) == [401]
    valkey.kill()
    for visitor in (one, two):
        assert await codes(guesses(visitor, 5)) == [401] * 3 + [429] * 2
    assert len(verified) == 1 + 3 + 3
    valkey.start()
    for service in services:  # instead of waiting for their own retry
        service.api.services.rate_limits._shared_retry_at = 0
    answers = [(await guess(visitor, VICTIM)).status_code for visitor in (one, two, one, two)]
    assert answers == [401] * 3 + [429]


@pytest.mark.usefixtures("bound")
async def test_hanging_shared_storage_delays_logins_only_briefly(
    start: Start, valkey: ValkeyServer
) -> None:
    service = await start(redis_url=valkey.url, limit_account_and_network="3/minute")
    assert (await guess(service.at(A), VICTIM, PASSWORD)).status_code == 200
    with valkey.frozen():
        began = time.monotonic()
        answers = await asyncio.gather(*(guess(service.at(A), VICTIM) for _ in range(20)))
        assert time.monotonic() - began < 5
        statuses = sorted(answer.status_code for answer in answers)
        assert statuses == [401] * 3 + [429] * 17


@pytest.mark.parametrize("poison", [("SET", "many"), ("LPUSH", "x"), ("HSET", "x", "y")])
@pytest.mark.usefixtures("long_redis_timeout")
async def test_unexpected_values_in_the_shared_storage_cause_no_outage(
    start: Start, valkey: ValkeyServer, poison: tuple[str, ...]
) -> None:
    service = await start(redis_url=valkey.url, limit_account_and_network="3/minute")
    assert (await guess(service.at(A), VICTIM)).status_code == 401
    for key in valkey.held():
        valkey.command("DEL", key)
        valkey.command(poison[0], key, *poison[1:])
    assert await codes(guesses(service.at(A), 5)) == [401] * 3 + [429] * 2
    assert (await guess(service.at(B), VICTIM, PASSWORD)).status_code == 200
