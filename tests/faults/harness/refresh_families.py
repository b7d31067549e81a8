"""Refresh families in the database, and the client that holds the tokens of one family."""

from dataclasses import dataclass, field

from authapi.crypto.secrets import hash_secret
from tests.faults.harness.http_client import Client, Lost, Response
from tests.storage.rows import sql

_TOKENS = "SELECT current_hash, previous_hash FROM authapi_refresh_families"


@dataclass(frozen=True, slots=True)
class FamilyRows:
    """The stored hashes of all families of a database."""

    current: list[bytes]
    previous: list[bytes | None]
    sessions: int

    @classmethod
    def of(cls, url: str) -> "FamilyRows":
        found = sql(url, _TOKENS)
        ((sessions,),) = sql(url, "SELECT count(*) FROM authapi_sessions WHERE kind = 'jwt'")
        previous = [None if row[1] is None else bytes(row[1]) for row in found]
        return cls([bytes(row[0]) for row in found], previous, sessions)


def digest(refresh_token: str) -> bytes:
    """Returns the stored hash of a token."""
    return hash_secret(refresh_token).digest


def count_reuse_events(url: str) -> int:
    """Returns how many times reuse of a token was reported."""
    ((count,),) = sql(url, "SELECT count(*) FROM authapi_events WHERE type = 'refresh_reuse'")
    return int(count)


@dataclass
class TokenChain:
    """One login: its client refreshes it, and keeps the newest refresh token."""

    token: str
    access: str = ""
    """The newest access token."""
    acknowledged: int = 0
    unexpected: list[str] = field(default_factory=list)
    """Responses that no fault explains."""

    async def refresh(self, client: Client) -> Response | None:
        """Refreshes once. Returns None and keeps the token if there is no response."""
        try:
            response = await client.grant(self.token)
        except Lost:
            return None
        if response.status == 200:
            self.token, self.access = (
                response.json()["refresh_token"],
                response.json()["access_token"],
            )
            self.acknowledged += 1
        else:
            self.unexpected.append(f"{response.status} {response.body[:200]!r}")
        return response

    async def refresh_until_lost(self, client: Client) -> None:
        """Refreshes without a pause until there is no response."""
        while await self.refresh(client) is not None:
            if self.unexpected:
                return
