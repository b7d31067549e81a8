"""A client that uses one credential without a pause, to measure when it is rejected."""

from dataclasses import dataclass, field

from tests.faults.harness.http_client import Client
from tests.faults.harness.ledger import Credential

SQLITE_STALENESS = 0.005
"""Seconds between two checks of the file (`services/identity_cache/invalidation.py`)."""
POSTGRES_STALENESS = 2.0
"""`identity_cache_max_staleness`."""
CLOCK_TOLERANCE = 0.001


@dataclass
class Hammer:
    """Uses one credential on one process without a pause, until it is rejected."""

    client: Client
    credential: Credential
    last_accepted: float = 0.0
    """When the last accepted request was sent."""
    is_refused: bool = False
    accepted_after_refusal: int = 0
    """Acceptances after the first refusal."""
    unexpected: list[int] = field(default_factory=list)

    async def run(self) -> None:
        remaining = 20  # requests after the first rejection, which must be rejected too
        while remaining:
            response = await self.client.get("/me", self.credential.headers)
            if response.status == 200:
                self.last_accepted = response.started_at
                self.accepted_after_refusal += self.is_refused
            elif response.status == 401:
                self.is_refused = True
            else:
                self.unexpected.append(response.status)
            remaining -= self.is_refused
