"""`authapi serve` with providers of this process, and people who visit them, over sockets."""

import json
import os
import re
import ssl
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urljoin, urlsplit

import httpx

from tests.servers.openid import OpenIDServer
from tests.servers.process import ServeProcess, free_port

PASSWORD = "correct horse battery staple"
SECRET = "s" * 32
NAVIGATION = {"sec-fetch-dest": "document", "accept": "text/html"}
"""The headers of a browser that is led somewhere."""
_SETTINGS = {
    "AUTHAPI_CHEAP_HASHES": "true",
    "AUTHAPI_SECRET": SECRET,
    # All people of these tests are in one network.
    "AUTHAPI_LIMIT_NETWORK": "100000/minute",
    "AUTHAPI_LIMIT_ACCOUNT": "100000/minute",
    "AUTHAPI_LIMIT_ACCOUNT_AND_NETWORK": "100000/minute",
    "AUTHAPI_LIMIT_REGISTRATIONS": "100000/minute",
}

_numbers = count(1)


@cache
def _plain_context() -> ssl.SSLContext:
    return ssl.create_default_context()


class Service:
    """A running service."""

    def __init__(self, process: ServeProcess, url: str, environment: Mapping[str, str]) -> None:
        self.process = process
        self.url = url
        self.environment = environment
        """With which a command acts on the same installation."""
        self.stack = ExitStack()

    def visitor(self) -> "Visitor":
        """Returns a new browser, which is closed with the service."""
        return self.stack.enter_context(Visitor(self.url))

    def command(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Runs a command of authapi on the same installation."""
        return subprocess.run(
            [sys.executable, "-m", "authapi", *arguments],
            env=dict(self.environment),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def mails(self, count: int) -> str:
        """All mails, as they are in their files. Waits until there are `count`."""
        folder = Path(self.environment["AUTHAPI_DATA_DIR"]) / "mail"
        deadline = time.monotonic() + 120
        while len(found := sorted(folder.glob("*.eml"))) < count:
            assert time.monotonic() < deadline, f"{len(found)} mails of {count}"
            time.sleep(0.02)
        return "\n".join(path.read_text() for path in found)


class Visitor(httpx.Client):
    """A browser, which keeps cookies, and follows no redirect by itself."""

    def __init__(self, url: str, *, trust: ssl.SSLContext | None = None, **options: Any) -> None:
        # A context of its own would cost each client more than all its requests.
        verify = trust or _plain_context()
        super().__init__(base_url=url, trust_env=False, timeout=60, verify=verify, **options)

    def register(self, email: str) -> None:
        """Creates an account with a password, and logs in to it by a cookie."""
        body = {"email": email, "password": PASSWORD}
        answer = self.post("/register", json=body)
        assert answer.status_code in {201, 202}, answer.text
        self.log_in(email)

    def log_in(self, email: str, **members: object) -> dict[str, Any]:
        """Logs in with the password."""
        body = {"email": email, "password": PASSWORD, **members}
        answer = self.post("/login", json=body)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def begin(self, name: str = "acme", *, to: str | None = None, **body: object) -> str:
        """Begins a login that leads to `to`; returns the address at the provider."""
        answer = self.post(f"/login/with/{name}", json={"continue": to, **body})
        assert answer.status_code == 200, answer.text
        found: str = answer.json()["url"]
        return found

    def begin_link(
        self,
        name: str = "acme",
        *,
        to: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> str:
        """Begins to link a provider to the account; returns the address at the provider."""
        answer = self.post(f"/me/identities/{name}", json={"continue": to}, headers=headers)
        assert answer.status_code == 200, answer.text
        found: str = answer.json()["url"]
        return found

    def at_provider(self, url: str, person: str) -> str:
        """Logs in at the provider as `person`; returns the address of the callback."""
        query = {**dict(parse_qsl(urlsplit(url).query)), "person": person}
        with httpx.Client(trust_env=False, timeout=60, verify=_plain_context()) as client:
            found: str = client.get(url.partition("?")[0], params=query).headers["location"]
        return found

    def come_back(self, callback: str) -> httpx.Response:
        """Comes back to the service, whose host may be another one than that of the address."""
        parts = urlsplit(callback)
        url = self.base_url.copy_with(path=parts.path, query=parts.query.encode())
        return self.get(url, headers={**NAVIGATION, "sec-fetch-site": "cross-site"})

    def log_in_at(
        self, person: str, name: str = "acme", *, to: str | None = None, **body: object
    ) -> httpx.Response:
        """Logs in as `person` at a provider; returns the answer to the callback."""
        return self.come_back(self.at_provider(self.begin(name, to=to, **body), person))

    def me(self) -> str | None:
        """Returns the address of the account that is logged in by a cookie; None if none is."""
        answer = self.get("/me")
        assert answer.status_code in {200, 401}, answer.text
        return None if answer.status_code == 401 else answer.json()["email"]

    def identities(self) -> list[dict[str, Any]]:
        """The linked identities of the account."""
        found: list[dict[str, Any]] = self.get("/me/identities").json()
        return found


def new_name() -> str:
    """A name of a person that no other test has."""
    return f"person{next(_numbers)}"


def at_once(*calls: Callable[[], httpx.Response]) -> Counter[str]:
    """Makes all calls at the same time, each in a thread; counts the outcomes."""
    with ThreadPoolExecutor(len(calls)) as pool:
        futures = [pool.submit(call) for call in calls]
        return Counter(outcome_of(future.result()) for future in futures)


@dataclass(frozen=True, slots=True)
class Place:
    """A service and its providers."""

    service: Service
    acme: "People"
    other: "People"


def outcome_of(answer: httpx.Response) -> str:
    """Returns what a browser is told: `done` or `error` of where it is led to, or the code."""
    if answer.status_code == 303:
        parts = urlsplit(urljoin("http://x/", answer.headers["location"]))
        query, fragment = dict(parse_qsl(parts.query)), dict(parse_qsl(parts.fragment))
        return query.get("done") or fragment.get("error") or f"to {parts.path}"
    if answer.content and "json" in answer.headers.get("content-type", ""):
        return str(answer.json().get("code", answer.status_code))
    return str(answer.status_code)


class People(OpenIDServer):
    """A provider at which several people log in, whose ID tokens have all that it tells.

    Each has an address at `example.com`, verified, unless `about` says something else.
    """

    def __init__(self) -> None:
        super().__init__()
        self.about: dict[str, dict[str, Any]] = {}
        """Claims of people that are changed, by subject; None removes one."""
        del self.metadata["userinfo_endpoint"]

    def claims_of(self, visit: Mapping[str, str]) -> dict[str, Any]:
        person = visit["person"]
        known = {
            "sub": person,
            "email": f"{person}@example.com",
            "email_verified": True,
            "name": person.title(),
        }
        return {**known, **self.about.get(person, {})}


def environment_of(
    folder: Path, database: str, providers: Mapping[str, Any], port: int, **settings: str
) -> dict[str, str]:
    """Returns the environment of an installation, whose data is below `folder`."""
    data = folder / "data"
    data.mkdir(mode=0o700, exist_ok=True)
    return {
        "PATH": os.defpath,
        "HOME": str(folder),
        "AUTHAPI_DATA_DIR": str(data),
        "AUTHAPI_DATABASE_URL": database,
        "AUTHAPI_PUBLIC_URL": f"http://127.0.0.1:{port}",
        "AUTHAPI_PORT": str(port),
        "AUTHAPI_PROVIDERS": json.dumps(providers),
        **_SETTINGS,
        **settings,
    }


@contextmanager
def serving(
    folder: Path,
    database: str,
    providers: Mapping[str, Any],
    **settings: str,
) -> Iterator[Service]:
    """Runs a service on a migrated database, with these `AUTHAPI_` settings."""
    port = free_port()
    given = {f"AUTHAPI_{name.upper()}": value for name, value in settings.items()}
    environment = environment_of(folder, database, providers, port, **given)
    command = [sys.executable, "-m", "authapi", "serve"]
    with ServeProcess(command, environment, folder) as process:
        url = f"http://127.0.0.1:{port}"
        process.wait_ready(f"{url}/health/ready", timeout=120)
        service = Service(process, url, environment)
        with service.stack:
            yield service
        assert process.terminate() == 0, process.output()
        output = process.output()
        assert "Traceback" not in output, output
        assert not re.search(r"\bstatus=500\b", output), output
