"""A stack: how its server starts, and which routes are measured."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import httpx

from benchmarks.apps.body import BODY

EXPECTED = json.dumps(BODY, separators=(",", ":")).encode()
Headers = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Account:
    """An account for logins."""

    username: str

    @property
    def email(self) -> str:
        """A unique address, of the same length for all accounts of a run."""
        return f"{self.username}@example.com"

    @property
    def password(self) -> str:
        """A password that is long enough for the policy of every stack."""
        return "correct horse battery staple"

    @property
    def as_json(self) -> dict[str, str]:
        """The login as JSON."""
        return {"email": self.email, "password": self.password}

    @property
    def as_form(self) -> dict[str, str]:
        """The login as the form of the OAuth password grant."""
        return {"username": self.email, "password": self.password}


def accounts(number: int) -> Sequence[Account]:
    """Returns `number` different accounts."""
    return [Account(f"ali{index:02}") for index in range(number)]


class WrongAnswer(Exception):
    """A stack does not behave as the measurement requires."""


@dataclass(frozen=True, slots=True)
class Target:
    """A route with the headers of its callers; without callers if it needs no authentication."""

    label: str
    path: str
    callers: Sequence[tuple[Account, Headers]] = ()

    def check(self, client: httpx.Client) -> None:
        """Checks that each caller gets the right response, and a bad or missing credential 401.

        Raises WrongAnswer otherwise.
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
        self._expect(401, client, {name: _corrupt(value) for name, value in headers.items()})

    def _expect(self, status: int, client: httpx.Client, headers: Headers) -> httpx.Response:
        client.cookies.clear()  # without cookies of earlier responses
        answer = client.get(self.path, headers=headers)
        if answer.status_code != status:
            raise WrongAnswer(f"{self.path}: {answer.status_code} instead of {status}")
        return answer


@dataclass(frozen=True, slots=True)
class Stack:
    """One server process and its routes."""

    name: str
    family: str
    """The name in `options.STACKS`."""
    port: int
    command: Sequence[str]
    environment: Headers
    ready: str
    """A path with 2xx responses when the server is ready."""
    plain: Mapping[str, str]
    """Paths of routes without authentication, by label."""
    guarded: Mapping[str, str] = field(default_factory=dict)
    """Paths of protected routes, by label."""
    register: Callable[[httpx.Client, Account], object] = lambda *_: None
    login: Callable[[httpx.Client, Account], Mapping[str, Headers]] = lambda *_: {}
    """Logs in; returns the headers for each protected route, by label."""
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def base(self) -> str:
        """The base URL of the server."""
        return f"http://127.0.0.1:{self.port}"

    def targets(self, client: httpx.Client, known: Sequence[Account]) -> Sequence[Target]:
        """Returns the targets, with new logins of these accounts."""
        logins = [(account, self.login(client, account)) for account in known]
        found = [Target(label, path) for label, path in self.plain.items()]
        for label, path in self.guarded.items():
            callers = [(account, headers[label]) for account, headers in logins]
            found.append(Target(label, path, callers))
        return found


def bearer(token: str) -> dict[str, str]:
    """Returns the header of a bearer token."""
    return {"Authorization": f"Bearer {token}"}


def cookies(client: httpx.Client, response: httpx.Response, *names: str) -> dict[str, str]:
    """Returns the header with only the cookies `names` of a login response.

    Built here, because on plain http a client does not send Secure cookies, and sends all others.
    Raises WrongAnswer if the response does not set one of them.
    """
    client.cookies.clear()
    pairs = [header.partition(";")[0] for header in response.headers.get_list("set-cookie")]
    found = {pair.partition("=")[0]: pair for pair in pairs if pair.partition("=")[2]}
    if missing := [name for name in names if name not in found]:
        raise WrongAnswer(f"a login has set no cookie {missing[0]}: {response.status_code}")
    return {"Cookie": "; ".join(found[name] for name in names)}


def _corrupt(header: str) -> str:
    """Changes one character in the middle of each credential, so that its form stays valid."""
    return "; ".join(_corrupt_one(value) for value in header.split("; "))


def _corrupt_one(value: str) -> str:
    middle = (value.find("=") + 1 + len(value)) // 2 if "=" in value else len(value) * 2 // 3
    other = "A" if value[middle] != "A" else "B"
    return f"{value[:middle]}{other}{value[middle + 1 :]}"
