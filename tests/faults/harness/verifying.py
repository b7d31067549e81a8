"""Tokens that are signed without a pause, and whether everybody who should accept them does."""

import asyncio
import base64
import json
import random
import secrets
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import jwt

from tests.faults.harness.families import Chain
from tests.faults.harness.wire import Client

ISSUER, AUDIENCE = "http://127.0.0.1:8000", "authapi"


def kid_of(token: str) -> str:
    """Which key is said to have signed it."""
    return str(jwt.get_unverified_header(token)["kid"])


def of_unknown_key(token: str) -> str:
    """The same token, of a key that nobody has."""
    header = {**jwt.get_unverified_header(token), "kid": secrets.token_urlsafe(32)}
    text = base64.urlsafe_b64encode(json.dumps(header).encode()).rstrip(b"=").decode()
    return f"{text}.{token.partition('.')[2]}"


@dataclass
class Verifying:
    """What was signed and verified so far."""

    clients: Sequence[Client]
    chance: random.Random
    outside: list[jwt.PyJWKClient]
    """Verifiers that know our keys from the JWK set of one process each.

    They keep it for five minutes, as our `max-age` says, and are not quick to ask again for a key
    that they do not know: what is not published in time, they refuse.
    """
    signers: Sequence[Client] = ()
    """Where tokens are refreshed: on all of `clients` at first."""
    recent: deque[str] = field(default_factory=lambda: deque(maxlen=300))
    signed: Counter[str] = field(default_factory=Counter)
    """Tokens by key."""
    inside: int = 0
    abroad: int = 0
    failed: list[str] = field(default_factory=list)
    is_over: bool = False

    def __post_init__(self) -> None:
        self.signers = self.clients

    async def sign(self, chain: Chain) -> None:
        """Refresh somewhere, and use the new token everywhere at once."""
        while not self.is_over:
            await chain.refresh(self.chance.choice(self.signers))
            token = chain.access
            self.recent.append(token)
            self.signed[kid_of(token)] += 1
            headers = {"Authorization": f"Bearer {token}"}
            answers = await asyncio.gather(*(one.get("/me", headers) for one in self.clients))
            self.inside += len(answers)
            self.failed += [f"{a.status} of {kid_of(token)}" for a in answers if a.status != 200]
            await asyncio.sleep(0.04)

    async def verify_abroad(self) -> None:
        """Verify what was signed lately, by the published keys alone."""
        while not self.is_over:
            for verifier in self.outside:
                for token in (self.recent[-1], self.chance.choice(self.recent)):
                    await asyncio.to_thread(self._verify, verifier, token)
            await asyncio.sleep(0.1)

    async def read_abroad(self) -> None:
        """The time has come at which every copy of the key set is read anew."""
        for verifier in self.outside:
            await asyncio.to_thread(verifier.get_signing_keys, refresh=True)

    def _verify(self, verifier: jwt.PyJWKClient, token: str) -> None:
        self.abroad += 1
        try:
            key = verifier.get_signing_key_from_jwt(token).key
            jwt.decode(token, key, algorithms=["ES256"], audience=AUDIENCE, issuer=ISSUER)
        except jwt.PyJWTError as error:
            self.failed.append(f"abroad: {error!r} of {kid_of(token)}")


@asynccontextmanager
async def verifying(
    clients: Sequence[Client], chains: Sequence[Chain], chance: random.Random
) -> AsyncIterator[Verifying]:
    """For the time of the block; each request is finished at its end."""
    outside = [
        jwt.PyJWKClient(f"http://127.0.0.1:{client.port}/.well-known/jwks.json")
        for client in clients
    ]
    found = Verifying(clients, chance, outside)
    async with asyncio.TaskGroup() as group:
        for chain in chains:
            await chain.refresh(clients[0])
            found.recent.append(chain.access)
            group.create_task(found.sign(chain))
        group.create_task(found.verify_abroad())
        try:
            yield found
        finally:
            found.is_over = True


async def until_everywhere(
    clients: Sequence[Client],
    token: str,
    holds: Callable[[Client], Awaitable[bool]],
    *,
    within: float,
) -> None:
    """Until it holds of every process. They are made to read the keys again, by an unknown one.

    Raises TimeoutError.
    """
    async with asyncio.timeout(within):
        for client in clients:
            while not await holds(client):
                headers = {"Authorization": f"Bearer {of_unknown_key(token)}"}
                assert (await client.get("/me", headers)).status == 401
                await asyncio.sleep(0.1)
