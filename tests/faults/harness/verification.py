"""Signs access tokens without a pause, and verifies them on every process and outside."""

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

from tests.faults.harness.http_client import Client
from tests.faults.harness.refresh_families import TokenChain

ISSUER, AUDIENCE = "http://127.0.0.1:8000", "authapi"


def kid_of(token: str) -> str:
    """Returns the `kid` of a token, without verification."""
    return str(jwt.get_unverified_header(token)["kid"])


def with_unknown_key(token: str) -> str:
    """Returns the same token with an unknown `kid`."""
    header = {**jwt.get_unverified_header(token), "kid": secrets.token_urlsafe(32)}
    text = base64.urlsafe_b64encode(json.dumps(header).encode()).rstrip(b"=").decode()
    return f"{text}.{token.partition('.')[2]}"


@dataclass
class Verification:
    """Counts the tokens signed and verified."""

    clients: Sequence[Client]
    chance: random.Random
    external_verifiers: list[jwt.PyJWKClient]
    """Verifiers that read the JWK Set of one process each.

    They cache it for five minutes, its `max-age`, and do not read it again at once for an unknown
    key: they reject tokens of a key that was not published in time.
    """
    signers: Sequence[Client] = ()
    """The clients that refresh tokens: at first all of `clients`."""
    recent: deque[str] = field(default_factory=lambda: deque(maxlen=300))
    signed: Counter[str] = field(default_factory=Counter)
    """Tokens by key."""
    internal: int = 0
    external: int = 0
    failed: list[str] = field(default_factory=list)
    is_over: bool = False

    def __post_init__(self) -> None:
        self.signers = self.clients

    async def sign(self, chain: TokenChain) -> None:
        """Refreshes on one process, and uses the new token on all processes at once."""
        while not self.is_over:
            await chain.refresh(self.chance.choice(self.signers))
            token = chain.access
            self.recent.append(token)
            self.signed[kid_of(token)] += 1
            headers = {"Authorization": f"Bearer {token}"}
            responses = await asyncio.gather(*(one.get("/me", headers) for one in self.clients))
            self.internal += len(responses)
            self.failed += [f"{a.status} of {kid_of(token)}" for a in responses if a.status != 200]
            await asyncio.sleep(0.04)

    async def verify_externally(self) -> None:
        """Verifies recent tokens with the published keys only."""
        while not self.is_over:
            for verifier in self.external_verifiers:
                for token in (self.recent[-1], self.chance.choice(self.recent)):
                    await asyncio.to_thread(self._verify, verifier, token)
            await asyncio.sleep(0.1)

    async def refresh_external_keys(self) -> None:
        """Makes all external verifiers read the JWK Set again, as after its `max-age`."""
        for verifier in self.external_verifiers:
            await asyncio.to_thread(verifier.get_signing_keys, refresh=True)

    def _verify(self, verifier: jwt.PyJWKClient, token: str) -> None:
        self.external += 1
        try:
            key = verifier.get_signing_key_from_jwt(token).key
            jwt.decode(token, key, algorithms=["ES256"], audience=AUDIENCE, issuer=ISSUER)
        except jwt.PyJWTError as error:
            self.failed.append(f"external verifier: {error!r} of {kid_of(token)}")


@asynccontextmanager
async def verifying(
    clients: Sequence[Client], chains: Sequence[TokenChain], chance: random.Random
) -> AsyncIterator[Verification]:
    """Signs and verifies during the block. Waits for pending requests at its end."""
    external = [
        jwt.PyJWKClient(f"http://127.0.0.1:{client.port}/.well-known/jwks.json")
        for client in clients
    ]
    found = Verification(clients, chance, external)
    async with asyncio.TaskGroup() as group:
        for chain in chains:
            await chain.refresh(clients[0])
            found.recent.append(chain.access)
            group.create_task(found.sign(chain))
        group.create_task(found.verify_externally())
        try:
            yield found
        finally:
            found.is_over = True


async def until_all(
    clients: Sequence[Client],
    token: str,
    condition: Callable[[Client], Awaitable[bool]],
    *,
    within: float,
) -> None:
    """Waits until the condition holds on every process.

    A token with an unknown key makes a process read the keys again. Raises TimeoutError.
    """
    async with asyncio.timeout(within):
        for client in clients:
            while not await condition(client):
                headers = {"Authorization": f"Bearer {with_unknown_key(token)}"}
                assert (await client.get("/me", headers)).status == 401
                await asyncio.sleep(0.1)
