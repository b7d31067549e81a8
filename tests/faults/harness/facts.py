"""What the client was told, and what must therefore be true whatever broke in between.

A fact is a change that was answered 2xx. A change that was answered 503, or not at all, is in
doubt: it may have happened, entirely, or not. An account with a change in doubt is not used again,
so that there is at most one of them in each.
"""

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

from tests.faults.harness.waiting import until
from tests.faults.harness.wire import Answer, Headers

Doubt = Literal["register", "login", "token", "refresh", "password", "logout", "end", "delete"]


@dataclass(frozen=True, slots=True, eq=False)
class Credential:
    """What a login was answered with."""

    strategy: str
    headers: Headers
    session_id: str
    expires_at: float = 0.0
    """By the clock of the process that issued it."""
    refresh_token: str | None = None
    """The newest that the client was given."""


@dataclass
class Account:
    """One user, driven by one task, one request after the other."""

    email: str
    password: str
    new_password: str | None = None
    """What the password may be instead, when changing it is in doubt."""
    is_deleted: bool = False
    live: list[Credential] = field(default_factory=list)
    dead: list[tuple[Credential, float]] = field(default_factory=list)
    """With the time at which the client was told that it is over."""
    spent: list[str] = field(default_factory=list)
    """Refresh tokens that a change of the password has ended, though not the login."""
    questioned: Credential | None = None
    """Ended, perhaps, by the change in doubt; or refreshed, perhaps, where that is it."""
    doubt: Doubt | None = None
    doubted_at: float = 0.0
    """By `time.monotonic()`."""

    @property
    def logins(self) -> list[Credential]:
        """Those that may manage the account: no bearer token may."""
        return [found for found in self.live if found.strategy in {"session", "jwt"}]

    def begin(self, doubt: Doubt) -> None:
        """A change is on its way: until its answer is here, it may have happened."""
        self.doubt = doubt
        self.doubted_at = time.monotonic()

    def swap(self, old: Credential, new: Credential) -> None:
        """The client holds `new` from here on."""
        self.live[self.live.index(old)] = new

    def end(self, credential: Credential, at: float) -> None:
        """The client was told so."""
        self.live.remove(credential)
        self.dead.append((credential, at))


@dataclass
class Ledger:
    """All accounts of a run, and what was answered."""

    accounts: list[Account] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    lost: int = 0
    facts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    """Answers that no fault excuses."""
    answers: list[tuple[float, float, str]] = field(default_factory=list)
    """When each request was sent, how long it took, and what it was."""

    @property
    def slowest(self) -> float:
        return max((seconds for _, seconds, _ in self.answers), default=0.0)

    @property
    def acknowledged(self) -> int:
        return sum(self.facts.values())

    @property
    def revocations(self) -> int:
        return sum(self.facts[what] for what in ("password", "logout", "end", "delete"))

    async def more_revocations(self, count: int, within: float = 60) -> None:
        """Wait until so many more are acknowledged than now."""
        enough = self.revocations + count
        await until(lambda: self.revocations >= enough, within=within, what="revocations")

    async def another(self, what: str, within: float = 60) -> None:
        """Wait until one more change of this kind is acknowledged than now."""
        enough = self.facts[what] + 1
        await until(lambda: self.facts[what] >= enough, within=within, what=what)

    @property
    def doubts(self) -> int:
        return sum(account.doubt is not None for account in self.accounts)

    def heard(self, answer: Answer, what: str) -> None:
        """Count an answer, and note it if it is one that must not be."""
        self.statuses[answer.status] += 1
        self.answers.append((answer.began, answer.seconds, what))
        if answer.status >= 500 and answer.status != 503:
            self.wrong.append(f"{what}: {answer.status}")
        if answer.status == 503 and int(answer.headers.get("retry-after", "0")) < 1:
            self.wrong.append(f"{what}: 503 without Retry-After")

    def summary(self) -> str:
        """For the line of figures."""
        return f"{self.acknowledged} facts acknowledged, {self.doubts} in doubt"
