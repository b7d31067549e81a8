"""Load in the background: users who change things, and somebody who tries what they have ended."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from tests.faults.harness.actors import Actor
from tests.faults.harness.facts import Ledger
from tests.faults.harness.wire import Client, Lost


@dataclass
class Load:
    """What is going on, and what has been seen so far."""

    clients: Sequence[Client]
    ledger: Ledger = field(default_factory=Ledger)
    tried: int = 0
    """Uses of credentials that were over."""
    revived: list[str] = field(default_factory=list)
    """Those that were accepted, later than the bound allows."""
    latencies: list[tuple[float, float, int]] = field(default_factory=list)
    """When a read was sent, how long it took, and its status (0: none)."""
    is_over: bool = False

    async def abuse(self, chance: random.Random, bound: float) -> None:
        """Try revoked credentials again and again."""
        while not self.is_over:
            accounts = [account for account in self.ledger.accounts[-50:] if account.dead]
            if not accounts:
                await asyncio.sleep(0.01)
                continue
            credential, at = chance.choice(chance.choice(accounts).dead)
            try:
                answer = await chance.choice(self.clients).get("/me", credential.headers)
            except Lost:
                await asyncio.sleep(0.01)
                continue
            self.ledger.heard(answer, "GET /me, revoked")
            self.tried += 1
            if answer.status == 200 and answer.began > at + bound:
                self.revived.append(f"{credential.strategy} {answer.began - at:.3f} s later")
            await asyncio.sleep(0.001)

    async def read(self, chance: random.Random) -> None:
        """Use credentials that are good, most of them again and again."""
        while not self.is_over:
            account = next((a for a in reversed(self.ledger.accounts) if a.live), None)
            if account is not None:
                headers, began = chance.choice(account.live).headers, time.monotonic()
                try:
                    answer = await chance.choice(self.clients).get("/me", headers)
                except Lost:
                    self.latencies.append((began, time.monotonic() - began, 0))
                else:
                    self.ledger.heard(answer, "GET /me")
                    self.latencies.append((answer.began, answer.seconds, answer.status))
            await asyncio.sleep(0.005)


@asynccontextmanager
async def load(
    ports: Sequence[int],
    chance: random.Random,
    *,
    actors: int = 4,
    bound: float = 2.0,
    patience: float = 30.0,
) -> AsyncIterator[Load]:
    """Load on these processes for the time of the block; each request is finished at its end."""
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(Client(port, patience)) for port in ports]
        found = Load(clients)
        async with asyncio.TaskGroup() as group:
            for _ in range(actors):
                actor = Actor(clients, found.ledger, chance)
                group.create_task(actor.run(lambda: found.is_over))
            group.create_task(found.abuse(chance, bound))
            group.create_task(found.read(chance))
            try:
                yield found
            finally:
                found.is_over = True
