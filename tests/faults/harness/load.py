"""Load in the background: clients that change accounts, and one that uses revoked credentials."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from tests.faults.harness.actors import Actor
from tests.faults.harness.http_client import Client, Lost
from tests.faults.harness.ledger import Ledger


@dataclass
class Load:
    """The clients of the load, and what they have observed."""

    clients: Sequence[Client]
    ledger: Ledger = field(default_factory=Ledger)
    tried: int = 0
    """Uses of revoked credentials."""
    violations: list[str] = field(default_factory=list)
    """Uses that were accepted later than the bound allows."""
    latencies: list[tuple[float, float, int]] = field(default_factory=list)
    """For each read the time it was sent, its duration, and its status (0: no response)."""
    is_over: bool = False

    async def use_revoked(self, chance: random.Random, bound: float) -> None:
        """Uses revoked credentials repeatedly."""
        while not self.is_over:
            accounts = [account for account in self.ledger.accounts[-50:] if account.revoked]
            if not accounts:
                await asyncio.sleep(0.01)
                continue
            credential, at = chance.choice(chance.choice(accounts).revoked)
            try:
                response = await chance.choice(self.clients).get("/me", credential.headers)
            except Lost:
                await asyncio.sleep(0.01)
                continue
            self.ledger.record(response, "GET /me, revoked")
            self.tried += 1
            if response.status == 200 and response.started_at > at + bound:
                self.violations.append(
                    f"{credential.strategy} {response.started_at - at:.3f} s later"
                )
            await asyncio.sleep(0.001)

    async def read(self, chance: random.Random) -> None:
        """Uses valid credentials, most of them repeatedly."""
        while not self.is_over:
            account = next((a for a in reversed(self.ledger.accounts) if a.live), None)
            if account is not None:
                headers, started_at = chance.choice(account.live).headers, time.monotonic()
                try:
                    response = await chance.choice(self.clients).get("/me", headers)
                except Lost:
                    self.latencies.append((started_at, time.monotonic() - started_at, 0))
                else:
                    self.ledger.record(response, "GET /me")
                    self.latencies.append((response.started_at, response.seconds, response.status))
            await asyncio.sleep(0.005)


@asynccontextmanager
async def load(
    ports: Sequence[int],
    chance: random.Random,
    *,
    actors: int = 4,
    bound: float = 2.0,
    request_timeout: float = 30.0,
) -> AsyncIterator[Load]:
    """Load on these processes during the block. Waits for pending requests at its end."""
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(Client(port, request_timeout)) for port in ports]
        found = Load(clients)
        async with asyncio.TaskGroup() as group:
            for _ in range(actors):
                actor = Actor(clients, found.ledger, chance)
                group.create_task(actor.run(lambda: found.is_over))
            group.create_task(found.use_revoked(chance, bound))
            group.create_task(found.read(chance))
            try:
                yield found
            finally:
                found.is_over = True
