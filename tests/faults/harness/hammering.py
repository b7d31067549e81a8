"""Somebody who uses one credential without a pause, to see when it is over."""

from dataclasses import dataclass, field

from tests.faults.harness.facts import Credential
from tests.faults.harness.wire import Client

SQLITE_BOUND = 0.005
"""Seconds between two looks at the file (`services/callers/coherence.py`)."""
POSTGRES_BOUND = 2.0
"""`known_callers_bound`."""
CLOCK = 0.001


@dataclass
class Hammer:
    """Uses one credential on one process without a pause, until it is refused."""

    client: Client
    credential: Credential
    last_accepted: float = 0.0
    """When the latest accepted request was sent."""
    is_refused: bool = False
    after: int = 0
    """Acceptances after the first refusal."""
    wrong: list[int] = field(default_factory=list)

    async def run(self) -> None:
        more = 20  # what is over stays over
        while more:
            answer = await self.client.get("/me", self.credential.headers)
            if answer.status == 200:
                self.last_accepted = answer.began
                self.after += self.is_refused
            elif answer.status == 401:
                self.is_refused = True
            else:
                self.wrong.append(answer.status)
            more -= self.is_refused
