"""The responses that clients received, and what must therefore hold after any fault.

A change with a 2xx response is acknowledged: a *fact*. A change with a 503 response, or with none,
is *in doubt*: it has been made entirely, or not at all. An account with a change in doubt is not
used again, so that each account has one at most.
"""

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

from tests.faults.harness.http_client import Headers, Response
from tests.faults.harness.polling import until

Doubt = Literal["register", "login", "token", "refresh", "password", "logout", "end", "delete"]


@dataclass(frozen=True, slots=True, eq=False)
class Credential:
    """The credential that a login returned."""

    strategy: str
    headers: Headers
    session_id: str
    expires_at: float = 0.0
    """By the clock of the process that issued it."""
    refresh_token: str | None = None
    """The newest refresh token that the client received."""


@dataclass
class Account:
    """An account that one task uses, one request after the other."""

    email: str
    password: str
    new_password: str | None = None
    """The other possible password while a change of it is in doubt."""
    is_deleted: bool = False
    live: list[Credential] = field(default_factory=list)
    revoked: list[tuple[Credential, float]] = field(default_factory=list)
    """Ended credentials, with the time at which the client received the response."""
    spent: list[str] = field(default_factory=list)
    """Refresh tokens that a change of the password revoked, while the login remained."""
    affected: Credential | None = None
    """The credential that the change in doubt ends or refreshes."""
    doubt: Doubt | None = None
    doubted_at: float = 0.0
    """By `time.monotonic()`."""

    @property
    def logins(self) -> list[Credential]:
        """The credentials that may manage the account, which bearer tokens may not."""
        return [found for found in self.live if found.strategy in {"session", "jwt"}]

    def begin(self, doubt: Doubt) -> None:
        """Records that a change was requested: it is in doubt until its response arrives."""
        self.doubt = doubt
        self.doubted_at = time.monotonic()

    def swap(self, old: Credential, new: Credential) -> None:
        """Replaces a credential of the client."""
        self.live[self.live.index(old)] = new

    def end(self, credential: Credential, at: float) -> None:
        """Records that the client received the response that ended `credential`."""
        self.live.remove(credential)
        self.revoked.append((credential, at))


@dataclass
class Ledger:
    """All accounts of a run, and the responses."""

    accounts: list[Account] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    lost: int = 0
    facts: Counter[str] = field(default_factory=Counter)
    unexpected: list[str] = field(default_factory=list)
    """Responses that no fault explains."""
    responses: list[tuple[float, float, str]] = field(default_factory=list)
    """For each request the time it was sent, its duration, and its name."""

    @property
    def slowest(self) -> float:
        return max((seconds for _, seconds, _ in self.responses), default=0.0)

    @property
    def acknowledged(self) -> int:
        return sum(self.facts.values())

    @property
    def revocations(self) -> int:
        return sum(self.facts[what] for what in ("password", "logout", "end", "delete"))

    async def wait_for_revocations(self, count: int, within: float = 60) -> None:
        """Waits until `count` more revocations are acknowledged."""
        enough = self.revocations + count
        await until(lambda: self.revocations >= enough, within=within, what="revocations")

    async def wait_for_another(self, what: str, within: float = 60) -> None:
        """Waits until one more change of this kind is acknowledged."""
        enough = self.facts[what] + 1
        await until(lambda: self.facts[what] >= enough, within=within, what=what)

    @property
    def doubts(self) -> int:
        return sum(account.doubt is not None for account in self.accounts)

    def record(self, response: Response, what: str) -> None:
        """Counts a response, and records it if it is unexpected."""
        self.statuses[response.status] += 1
        self.responses.append((response.started_at, response.seconds, what))
        if response.status >= 500 and response.status != 503:
            self.unexpected.append(f"{what}: {response.status}")
        if response.status == 503 and int(response.headers.get("retry-after", "0")) < 1:
            self.unexpected.append(f"{what}: 503 without Retry-After")

    def summary(self) -> str:
        """Returns the totals for the report."""
        return f"{self.acknowledged} facts acknowledged, {self.doubts} in doubt"
