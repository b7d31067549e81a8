"""One thing that is measured: how its server starts, and what is asked of it."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import httpx

from benchmarks.apps.body import BODY

EXPECTED = json.dumps(BODY, separators=(",", ":")).encode()
Headers = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Account:
    """Somebody who can log in."""

    username: str

    @property
    def email(self) -> str:
        """Unique, and of one length for all accounts of a run."""
        return f"{self.username}@example.com"

    @property
    def password(self) -> str:
        """Long enough for everybody's policy."""
        return "correct horse battery staple"

    @property
    def as_json(self) -> dict[str, str]:
        """As most stacks take it."""
        return {"email": self.email, "password": self.password}

    @property
    def as_form(self) -> dict[str, str]:
        """As OAuth's password form has it."""
        return {"username": self.email, "password": self.password}


def accounts(number: int) -> Sequence[Account]:
    """So many different ones."""
    return [Account(f"ali{index:02}") for index in range(number)]


class WrongAnswer(Exception):
    """A stack does not do what it should be measured at."""


@dataclass(frozen=True, slots=True)
class Target:
    """A route, and callers that it knows; none where the route recognises no caller."""

    label: str
    path: str
    callers: Sequence[tuple[Account, Headers]] = ()

    def check(self, client: httpx.Client) -> None:
        """Return if each caller gets the right answer, and a bad credential or none gets 401.

        Raises WrongAnswer otherwise: then there is nothing to measure.
        """
        if not self.callers:
            self._expect(200, client, {})
            return
        for account, headers in self.callers:
            answer = self._expect(200, client, headers)
            if self.path == "/me":
                right = answer.json()["email"] == account.email
            else:
                right = answer.content == EXPECTED
            if not right:
                raise WrongAnswer(f"{self.path}: {answer.text[:200]}")
        _, headers = self.callers[0]
        self._expect(401, client, {})
        self._expect(401, client, {name: _spoilt(value) for name, value in headers.items()})

    def _expect(self, status: int, client: httpx.Client, headers: Headers) -> httpx.Response:
        client.cookies.clear()  # none that an answer before has set
        answer = client.get(self.path, headers=headers)
        if answer.status_code != status:
            raise WrongAnswer(f"{self.path}: {answer.status_code} instead of {status}")
        return answer


@dataclass(frozen=True, slots=True)
class Stack:
    """One server process and its routes."""

    name: str
    family: str
    """Which of `options.STACKS` it belongs to."""
    port: int
    command: Sequence[str]
    environment: Headers
    ready: str
    """A path that answers 2xx once the server is ready."""
    plain: Mapping[str, str]
    """Routes that know nobody: their path by label."""
    guarded: Mapping[str, str] = field(default_factory=dict)
    """Routes that know callers: their path by label."""
    register: Callable[[httpx.Client, Account], object] = lambda *_: None
    login: Callable[[httpx.Client, Account], Mapping[str, Headers]] = lambda *_: {}
    """What a new login sends to each guarded route, by label."""
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def base(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"

    def targets(self, client: httpx.Client, known: Sequence[Account]) -> Sequence[Target]:
        """What to measure, with new logins of these accounts."""
        logins = [(account, self.login(client, account)) for account in known]
        found = [Target(label, path) for label, path in self.plain.items()]
        for label, path in self.guarded.items():
            callers = [(account, headers[label]) for account, headers in logins]
            found.append(Target(label, path, callers))
        return found


def bearer(token: str) -> dict[str, str]:
    """The header of a bearer credential."""
    return {"Authorization": f"Bearer {token}"}


def cookie(client: httpx.Client, response: httpx.Response, name: str) -> dict[str, str]:
    """The header that sends back the cookie `name`, and no other, that a login has set.

    By hand: on plain http, a client would keep Secure cookies to itself, and send the others
    unasked.
    """
    client.cookies.clear()
    for header in response.headers.get_list("set-cookie"):
        pair = header.partition(";")[0]
        if pair.startswith(f"{name}="):
            return {"Cookie": pair}
    raise WrongAnswer(f"a login has set no cookie {name}: {response.status_code}")


def _spoilt(value: str) -> str:
    """The same credential but for one character in its middle, so that its form stays right."""
    middle = (value.find("=") + 1 + len(value)) // 2 if "=" in value else len(value) * 2 // 3
    other = "A" if value[middle] != "A" else "B"
    return f"{value[:middle]}{other}{value[middle + 1 :]}"
