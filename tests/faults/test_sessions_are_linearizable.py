"""41: no session comes back: histories of sessions on four processes are linearizable.

Sixteen clients log in, read, refresh, log out, and deactivate and activate the accounts that they
share. Each response is an operation in the history of its session.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import pytest

from tests.faults.conftest import NewService, Report
from tests.faults.harness.actors import STRATEGIES, credential_of, headers_of, new_password
from tests.faults.harness.figures import scaled
from tests.faults.harness.hammer import CLOCK_TOLERANCE, POSTGRES_STALENESS, SQLITE_STALENESS
from tests.faults.harness.http_client import Client, Headers, Response
from tests.faults.harness.linearizability import Operation, What, is_linearizable
from tests.faults.harness.polling import until
from tests.storage.rows import sql

pytestmark = pytest.mark.faults

_PROCESSES, _CLIENTS, _ACCOUNTS = 4, 16, 4
_MAX_SESSIONS = 60
"""Sessions of an account that are in use, at most."""


@dataclass(eq=False)
class _Session:
    """A login, which all clients of its account use."""

    strategy: str
    headers: Headers
    refresh_token: str | None
    history: list[Operation]
    refreshing: asyncio.Lock = field(default_factory=asyncio.Lock)
    """A refresh token is used once at a time. What several do with one is test 21."""


@dataclass(eq=False)
class _Account:
    id: str
    email: str
    password: str
    sessions: list[_Session] = field(default_factory=list)
    """Those that the clients use, also some that have ended."""
    everything: list[_Session] = field(default_factory=list)
    deactivations: list[Operation] = field(default_factory=list)
    """Deactivations, which end every session that exists then."""
    changing: asyncio.Lock = field(default_factory=asyncio.Lock)
    """One client deactivates the account, and activates it again."""

    def histories(self) -> Iterator[Sequence[Operation]]:
        """The history of each session, which begins with its login."""
        for session in self.everything:
            login, *others = session.history
            ends = [it for it in self.deactivations if it.returned > login.called]
            yield [login, *others, *ends]


@dataclass
class _World:
    clients: Sequence[Client]
    admin: Headers
    accounts: list[_Account]
    chance: random.Random
    counts: Counter[str] = field(default_factory=Counter)
    unexpected: list[str] = field(default_factory=list)
    is_over: bool = False

    @property
    def has_everything(self) -> bool:
        return all(self.counts[what] > 0 for what in ("begin", "use", "end", "deactivate"))

    async def act(self, account: _Account) -> None:
        """One client: operation after operation on one account."""
        kinds = (self._read, self._refresh, self._log_out, self._log_in, self._deactivate)
        while not self.is_over:
            if not account.sessions:
                await self._log_in(account)
                continue
            [act] = self.chance.choices(kinds, weights=(70, 12, 6, 10, 1))
            await act(account)

    def _client(self) -> Client:
        return self.chance.choice(self.clients)

    def _record(
        self, session: _Session, what: What, response: Response, accepted: int, refused: int
    ) -> None:
        self.counts[what] += 1
        if response.status not in (accepted, refused):
            self.unexpected.append(f"{what}: {response.status} {response.body[:200]!r}")
            return
        times, is_accepted = (response.started_at, response.ended), response.status == accepted
        session.history.append(
            Operation("begin" if what == "begin" else "use", *times, is_accepted)
        )
        if what == "end" and is_accepted:
            session.history.append(Operation("end", *times))

    async def _read(self, account: _Account) -> None:
        session = self.chance.choice(account.sessions)
        response = await self._client().get("/me", session.headers)
        self._record(session, "use", response, 200, 401)

    async def _refresh(self, account: _Account) -> None:
        held = [found for found in account.sessions if found.refresh_token]
        if not held:
            return
        session = self.chance.choice(held)
        async with session.refreshing:
            response = await self._client().grant(session.refresh_token or "")
            self._record(session, "use", response, 200, 400)
            if response.status == 200:
                session.refresh_token = response.json()["refresh_token"]
                session.headers = headers_of(response, "jwt")

    async def _log_out(self, account: _Account) -> None:
        session = self.chance.choice(account.sessions)
        response = await self._client().post("/logout", headers=session.headers)
        self._record(session, "end", response, 204, 401)

    async def _log_in(self, account: _Account) -> None:
        strategy = self.chance.choice(STRATEGIES)
        body = {"email": account.email, "password": account.password, "strategy": strategy}
        response = await self._client().post("/login", body)
        if response.status == 401:  # the account is not active
            return
        if response.status != 200:
            self.unexpected.append(f"login: {response.status} {response.body[:200]!r}")
            return
        found = credential_of(response, strategy)
        session = _Session(strategy, found.headers, found.refresh_token, [])
        self._record(session, "begin", response, 200, 0)
        account.sessions.append(session)
        account.everything.append(session)
        if len(account.sessions) > _MAX_SESSIONS // _ACCOUNTS:
            account.sessions.pop(0)

    async def _deactivate(self, account: _Account) -> None:
        if account.changing.locked():
            return
        async with account.changing:
            path = f"/admin/users/{account.id}"
            client = self._client()
            response = await client.send(
                "PATCH", path, json={"is_active": False}, headers=self.admin
            )
            self.counts["deactivate"] += 1
            assert response.status == 200, response.body
            account.deactivations.append(Operation("end", response.started_at, response.ended))
            await asyncio.sleep(self.chance.uniform(0.05, 0.1))
            response = await client.send(
                "PATCH", path, json={"is_active": True}, headers=self.admin
            )
            assert response.status == 200, response.body


@pytest.mark.parametrize("cache", ["cache", "no cache"])
async def test_41_linearizable_sessions(
    url: str, cache: str, new_service: NewService, report: Report, chance: random.Random
) -> None:
    size: Mapping[str, str] = {} if cache == "cache" else {"IDENTITY_CACHE_SIZE": "0"}
    service = new_service(url, CHEAP_HASHES="true", MAX_SESSIONS="1000", **size)
    running = await asyncio.to_thread(service.start_many, _PROCESSES)
    bound = SQLITE_STALENESS if service.is_sqlite else POSTGRES_STALENESS
    staleness = 0.0 if size else bound + CLOCK_TOLERANCE
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(Client(process.port)) for process in running]
        world = _World(clients, await _create_admin(clients[0], url), [], chance)
        for _ in range(_ACCOUNTS):
            world.accounts.append(await _create_account(clients[0]))
        async with asyncio.TaskGroup() as group:
            for number in range(_CLIENTS):
                group.create_task(world.act(world.accounts[number % _ACCOUNTS]))
            await asyncio.sleep(scaled(3, 120))
            await until(lambda: world.has_everything, within=60, what="every kind of operation")
            world.is_over = True
    histories = [it for account in world.accounts for it in account.histories()]
    started = time.monotonic()
    anomalies = [it for it in histories if not is_linearizable(it, staleness=staleness)]
    strict = sum(not is_linearizable(it) for it in histories) if staleness else len(anomalies)
    report(
        f"{len(histories)} histories of sessions, {sum(map(len, histories))} operations "
        f"({dict(world.counts)}), checked in {time.monotonic() - started:.1f} s with a "
        f"staleness of {staleness * 1000:.0f} ms: anomalies {len(anomalies)} (without it {strict})"
    )
    assert (anomalies, world.unexpected) == ([], [])
    assert world.has_everything


async def _create_account(client: Client) -> _Account:
    email, password = f"{new_password()[:16]}@example.com", new_password()
    made = await client.post("/register", {"email": email, "password": password})
    assert made.status == 201, made.body
    return _Account(made.json()["id"], email, password)


async def _create_admin(client: Client, url: str) -> Headers:
    account = await _create_account(client)
    sql(url, f"UPDATE authapi_users SET is_superuser = true WHERE email = '{account.email}'")
    body = {"email": account.email, "password": account.password, "strategy": "jwt"}
    return headers_of(await client.post("/login", body), "jwt")
