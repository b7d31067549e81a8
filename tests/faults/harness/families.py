"""Refresh families as the rows have them, and the client that holds the tokens of one."""

from dataclasses import dataclass, field

from authapi.crypto.secrets import hash_secret
from tests.faults.harness.wire import Answer, Client, Lost
from tests.storage.rows import sql

_TOKENS = "SELECT current_hash, previous_hash FROM refresh_families"


@dataclass(frozen=True, slots=True)
class Rows:
    """What is kept of every family of a database."""

    current: list[bytes]
    previous: list[bytes | None]
    sessions: int

    @classmethod
    def of(cls, url: str) -> "Rows":
        found = sql(url, _TOKENS)
        ((sessions,),) = sql(url, "SELECT count(*) FROM sessions WHERE kind = 'jwt'")
        previous = [None if row[1] is None else bytes(row[1]) for row in found]
        return cls([bytes(row[0]) for row in found], previous, sessions)


def digest(refresh_token: str) -> bytes:
    """What is kept of a token."""
    return hash_secret(refresh_token).digest


def thefts(url: str) -> int:
    """How many times a token was taken for stolen."""
    ((count,),) = sql(url, "SELECT count(*) FROM events WHERE type = 'refresh_reuse'")
    return int(count)


@dataclass
class Chain:
    """One login, whose client refreshes it and keeps the newest token that it was given."""

    token: str
    access: str = ""
    """The newest access token."""
    acknowledged: int = 0
    wrong: list[str] = field(default_factory=list)
    """Answers that no fault excuses."""

    async def refresh(self, client: Client) -> Answer | None:
        """Refresh once; None if there was no answer, and the token is the old one then."""
        try:
            answer = await client.grant(self.token)
        except Lost:
            return None
        if answer.status == 200:
            self.token, self.access = answer.json()["refresh_token"], answer.json()["access_token"]
            self.acknowledged += 1
        else:
            self.wrong.append(f"{answer.status} {answer.body[:200]!r}")
        return answer

    async def until_lost(self, client: Client) -> None:
        """Refresh without a pause until nobody answers."""
        while await self.refresh(client) is not None:
            if self.wrong:
                return
