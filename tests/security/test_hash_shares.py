"""One network cannot fill the queue of hashes: logins from other networks are still served."""

import asyncio
import base64
import os
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from authapi import Settings, create_app
from authapi.crypto.passwords import PasswordHash, PasswordHasher
from authapi.testing import PASSWORD
from tests.security.peers import Service
from tests.servers.process import ServeProcess, free_port
from tests.web.logins import sign_in
from tests.web.mailbox import client_with_mailbox, secret_in

HERE, SAME_64, ELSEWHERE = "2001:db8:0:1::1", "2001:db8:0:1:ffff::2", "198.51.100.9"
NEW = "another good long passphrase"
LIMITS = ("account_and_network", "account", "network", "total", "registrations", "mails")
OWNER = "owner@example.com"


class Gate:
    """Blocks the hashes of the passwords in `held` until it is opened, but no others."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.held: set[str] = set()

    def enter(self, password: str) -> None:
        if password in self.held:
            assert self.opened.wait(30)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    gate, verify = Gate(), PasswordHasher.verify

    def held(self: PasswordHasher, password: str, stored: PasswordHash | None) -> None:
        gate.enter(password)
        verify(self, password, stored)

    monkeypatch.setattr(PasswordHasher, "verify", held)
    return gate


@asynccontextmanager
async def service_with(url: str, **changes: object) -> AsyncIterator[Service]:
    """Two concurrent hashes, six waiting ones, and no other limit in reach."""
    limits = {f"limit_{name}": "100000/second" for name in LIMITS}
    values: dict[str, object] = {
        "database_url": url,
        "hash_concurrency": 2,
        "hash_queue": 6,
        "strategies": ("session", "token", "jwt", "basic"),
        **limits,
        **changes,
    }
    settings = Settings(**values)  # type: ignore[arg-type]
    app = create_app(settings)
    async with client_with_mailbox(settings, app) as api:
        await api.create_user(OWNER)
        yield Service(app, api, "http://127.0.0.1:8000")


async def log_in(visitor: httpx.AsyncClient, email: str, password: str) -> httpx.Response:
    body = {"email": email, "password": password, "strategy": "token"}
    return await visitor.post("/login", json=body)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110  # there is no event to wait for
            await asyncio.sleep(0.001)


@asynccontextmanager
async def crowded(
    service: Service, gate: Gate
) -> AsyncIterator[list[asyncio.Task[httpx.Response]]]:
    """During the block, one network has more logins than fit into the queue."""
    passwords = [f"a long passphrase of number {number}" for number in range(4)]
    users = [await service.api.create_user(password=password) for password in passwords]
    gate.held |= set(passwords)
    tasks = [
        asyncio.create_task(log_in(service.at(ip), users[n % 4].email, passwords[n % 4]))
        for n in range(12)
        for ip in (HERE, SAME_64)
    ]
    await until(lambda: service.api.services.passwords.waiting == 6)
    await until(lambda: sum(task.done() for task in tasks) == len(tasks) - 8)
    yield tasks
    gate.opened.set()
    await asyncio.gather(*tasks)


async def _login(service: Service, visitor: httpx.AsyncClient) -> httpx.Response:
    return await log_in(visitor, OWNER, PASSWORD)


async def _grant(service: Service, visitor: httpx.AsyncClient) -> httpx.Response:
    form = {"grant_type": "password", "username": OWNER, "password": PASSWORD}
    return await visitor.post("/token", data=form)


async def _basic(service: Service, visitor: httpx.AsyncClient) -> httpx.Response:
    pair = base64.b64encode(f"{OWNER}:{PASSWORD}".encode()).decode()
    return await visitor.get("/me", headers={"authorization": f"Basic {pair}"})


async def _register(service: Service, visitor: httpx.AsyncClient) -> httpx.Response:
    body = {"email": "new@example.com", "password": PASSWORD}
    return await visitor.post("/register", json=body)


async def _owner_posts(
    service: Service, visitor: httpx.AsyncClient, path: str, body: dict[str, str]
) -> httpx.Response:
    owner = await service.api.create_user()
    return await visitor.post(path, json=body, headers=await sign_in(service.api.services, owner))


async def _change(service: Service, visitor: httpx.AsyncClient) -> httpx.Response:
    body = {"current_password": PASSWORD, "new_password": NEW}
    return await _owner_posts(service, visitor, "/me/password", body)


async def _reauthenticate(service: Service, visitor: httpx.AsyncClient) -> httpx.Response:
    return await _owner_posts(service, visitor, "/me/reauthenticate", {"password": PASSWORD})


async def _change_address(service: Service, visitor: httpx.AsyncClient) -> httpx.Response:
    body = {"email": "next@example.com", "current_password": PASSWORD}
    return await _owner_posts(service, visitor, "/me/email", body)


async def _confirm(service: Service, visitor: httpx.AsyncClient) -> httpx.Response:
    await visitor.post("/email/confirm/request", json={"email": OWNER})
    secret = await secret_in(service.api.services, "confirm", OWNER)
    return await visitor.post("/email/confirm", json={"token": secret, "password": PASSWORD})


async def _reset(service: Service, visitor: httpx.AsyncClient) -> httpx.Response:
    await visitor.post("/password/forgot", json={"email": OWNER})
    secret = await secret_in(service.api.services, "reset", OWNER)
    return await visitor.post("/password/reset", json={"token": secret, "new_password": NEW})


async def _accept(service: Service, visitor: httpx.AsyncClient) -> httpx.Response:
    root = await service.api.create_user(is_superuser=True)
    headers = await sign_in(service.api.services, root)
    body = {"email": "guest@example.com", "roles": []}
    answer = await service.api.post("/admin/users", json=body, headers=headers)
    assert answer.status_code == 201, answer.text
    secret = await secret_in(service.api.services, "invitation", "guest@example.com")
    return await visitor.post("/invitation/accept", json={"token": secret, "password": NEW})


async def _page(service: Service, visitor: httpx.AsyncClient) -> httpx.Response:
    await visitor.post("/password/forgot", json={"email": OWNER})
    secret = await secret_in(service.api.services, "reset", OWNER)
    return await visitor.post("/account/reset", data={"token": secret, "new_password": NEW})


WAYS = (
    *(_login, _grant, _basic, _register, _change, _reauthenticate),
    *(_change_address, _confirm, _reset, _accept, _page),
)
Way = Callable[[Service, httpx.AsyncClient], Coroutine[Any, Any, httpx.Response]]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
async def test_every_operation_that_hashes_is_served_for_another_network(
    sqlite_url: str, gate: Gate, way: Way
) -> None:
    async with service_with(sqlite_url) as service, crowded(service, gate) as tasks:
        # Both threads are blocked: the waiting request is not rejected, and is served after them.
        asked = asyncio.create_task(way(service, service.at(ELSEWHERE)))
        await until(lambda: asked.done() or sum(task.done() for task in tasks) == 17)
        assert not asked.done(), asked.result().text
        gate.opened.set()
        answer = await asked
        assert answer.status_code in (200, 201, 202, 204, 303), answer.text
        assert len(service.api.services.passwords._queue) <= 7


async def test_replaced_entry_is_answered_503(database_url: str, gate: Gate) -> None:
    async with service_with(database_url) as service:
        async with crowded(service, gate) as tasks:
            victims = [service.at(f"198.51.100.{number}") for number in range(4)]
            asked = [asyncio.create_task(log_in(one, OWNER, PASSWORD)) for one in victims]
            # Four of the six places, as the two hashes that are being computed count as well.
            await until(lambda: sum(task.done() for task in tasks) == 20)
            refused = [task.result() for task in tasks if task.done()]
            assert {(one.status_code, one.json()["code"]) for one in refused} == {
                (503, "overloaded")
            }
            assert all(int(one.headers["retry-after"]) >= 1 for one in refused)
            gate.opened.set()
            assert [one.status_code for one in await asyncio.gather(*asked)] == [200] * 4
        assert sorted(task.result().status_code for task in tasks) == [200] * 4 + [503] * 20
        assert service.api.services.passwords._pending == 0


async def test_addresses_of_one_network_share_the_queue(sqlite_url: str, gate: Gate) -> None:
    async with service_with(sqlite_url) as service, crowded(service, gate):
        answer = await log_in(service.at("2001:db8:0:1:a:b:c:d"), OWNER, PASSWORD)
        assert (answer.status_code, answer.json()["code"]) == (503, "overloaded")
        # Clients without an address share a queue with each other, but not with that network.
        asked = asyncio.create_task(log_in(service.at(None), OWNER, PASSWORD))
        await until(lambda: service.api.services.passwords._queue._entries["unknown"] == 1)
        gate.opened.set()
        assert (await asked).status_code == 200


async def test_networks_are_served_in_turn(sqlite_url: str, gate: Gate) -> None:
    order = list[str]()
    async with (
        service_with(sqlite_url, hash_concurrency=1, hash_queue=20) as service,
        crowd_of(service, gate, 10, order),
    ):
        asked = asyncio.create_task(log_in(service.at(ELSEWHERE), OWNER, PASSWORD))
        await until(lambda: len(service.api.services.passwords._queue) == 11)
        asked.add_done_callback(lambda _: order.append("elsewhere"))
        gate.opened.set()
        assert (await asked).status_code == 200
    assert order.index("elsewhere") <= 3, "after the running hash and the first waiting one"


@asynccontextmanager
async def crowd_of(
    service: Service, gate: Gate, count: int, order: list[str]
) -> AsyncIterator[None]:
    password = "a long passphrase that is held"
    user = await service.api.create_user(password=password)
    gate.held.add(password)
    tasks = [
        asyncio.create_task(log_in(service.at(HERE), user.email, password)) for _ in range(count)
    ]
    for task in tasks:
        task.add_done_callback(lambda _: order.append("crowd"))
    await until(lambda: len(service.api.services.passwords._queue) == count)
    yield
    await asyncio.gather(*tasks)


@pytest.mark.slow
@pytest.mark.real_hashes
async def test_login_succeeds_beside_a_hundred_connections_of_another_address(
    tmp_path: Path,
) -> None:
    port = free_port()
    environment = {
        "PATH": os.environ["PATH"],
        "AUTHAPI_DATA_DIR": str(tmp_path / "data"),
        "AUTHAPI_PORT": str(port),
        "AUTHAPI_LIMIT_REGISTRATIONS": "1000/minute",
    }
    url, accounts = f"http://127.0.0.1:{port}", [f"own{n}@example.com" for n in range(10)]
    command = [sys.executable, "-m", "authapi", "serve"]

    def from_address(ip: str) -> httpx.AsyncClient:
        transport = httpx.AsyncHTTPTransport(
            local_address=ip, limits=httpx.Limits(max_connections=100)
        )
        return httpx.AsyncClient(transport=transport, base_url=url, timeout=60)

    with ServeProcess(command, environment, tmp_path) as server:
        server.wait_ready(f"{url}/health/ready", timeout=60)
        async with from_address("127.0.0.2") as crowd, from_address("127.0.0.3") as victim:
            for email in (*accounts, OWNER):
                body = {"email": email, "password": PASSWORD}
                assert (await crowd.post("/register", json=body)).status_code == 201
            is_over = asyncio.Event()
            codes = list[int]()

            async def connection(number: int) -> None:
                while not is_over.is_set():
                    answer = await log_in(crowd, accounts[number % 10], PASSWORD)
                    codes.append(answer.status_code)

            storm = [asyncio.create_task(connection(number)) for number in range(100)]
            await until(lambda: codes.count(503) > 20)
            found = [(await log_in(victim, OWNER, PASSWORD)).status_code for _ in range(10)]
            is_over.set()
            await asyncio.gather(*storm)
        assert found == [200] * 10
        assert set(codes) <= {200, 429, 503}
        assert server.terminate() == 0
