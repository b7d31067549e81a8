"""A real `authapi serve` for each algorithm, and its command line beside it."""

import asyncio
import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import httpx
import pytest

from authapi import Settings
from authapi.services import Services
from authapi.services.addresses import parse_email
from tests.servers.forked import Forking
from tests.servers.process import ServeProcess, free_port
from tests.web.logins import sign_in

PASSWORD = "correct horse battery staple"
_numbers = count(1)


@dataclass(frozen=True)
class Served:
    """A service that runs."""

    url: str
    algorithm: str
    environment: Mapping[str, str]
    directory: Path
    forking: Forking

    def register(self) -> str:
        """The address of a new account."""
        email = f"user{next(_numbers)}@example.com"
        body = {"email": email, "password": PASSWORD}
        assert httpx.post(f"{self.url}/register", json=body).status_code == 201
        return email

    def login(self, strategy: str = "jwt") -> dict[str, str]:
        """What the login of a new account answers."""
        body = {"email": self.register(), "password": PASSWORD, "strategy": strategy}
        answer = httpx.post(f"{self.url}/login", json=body)
        assert answer.status_code == 200
        found: dict[str, str] = answer.json()
        return found

    def run(self, *arguments: str, text: str = "") -> str:
        """What `authapi` prints with these arguments."""
        done = self.forking.run(arguments, self.environment, self.directory, text)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def rotated(self) -> str:
        """A JWT of another process of this service, which has rotated the keys a moment ago.

        The one that runs signs with the next key when it has read them again, up to half a minute
        later; what others sign with it, it takes at once.
        """
        return asyncio.run(self._rotated())

    def metadata(self) -> dict[str, str]:
        """What the service says of itself."""
        answer = httpx.get(f"{self.url}/.well-known/oauth-authorization-server")
        found: dict[str, str] = answer.json()
        return found

    async def _rotated(self) -> str:
        names = {name.removeprefix("AUTHAPI_").lower(): name for name in self.environment}
        values = {short: self.environment[name] for short, name in names.items() if short != "path"}
        services = Services.build(Settings(**values))  # type: ignore[arg-type]  # texts, as in the environment
        try:
            await services.open()
            await services.keys.rotate(early=True)
            address = parse_email(f"user{next(_numbers)}@example.com")
            user = await services.accounts.create(address, PASSWORD)
            headers = await sign_in(services, user, "jwt")
            return headers["authorization"].removeprefix("Bearer ")
        finally:
            await services.stop()


@dataclass(frozen=True)
class Gateway:
    """What a resource server introspects with: a token that an operator has made for it."""

    id: str
    secret: str


@pytest.fixture(scope="module")
def gateway(served: Served) -> Gateway:
    who = f"{served.algorithm.lower()}-{next(_numbers)}@example.com"
    served.run("users", "create", who, text=f"{PASSWORD}\n")
    scope = ("--scope", "introspect")
    made = served.run("tokens", "create", who, "--name", "resource server", *scope, "--json")
    row = json.loads(made)
    return Gateway(row["id"], row["access_token"])


@pytest.fixture(scope="module", params=["ES256", "RS256"])
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, forking: Forking
) -> Iterator[Served]:
    directory, port = tmp_path_factory.mktemp("served"), free_port()
    url = f"http://127.0.0.1:{port}"
    environment = {
        "PATH": os.environ["PATH"],
        "AUTHAPI_DATA_DIR": str(directory / "data"),
        "AUTHAPI_PUBLIC_URL": url,
        "AUTHAPI_JWT_ALGORITHM": request.param,
        "AUTHAPI_SCOPES": "reports:read",
    }
    command = [sys.executable, "-m", "authapi", "serve", "--port", str(port)]
    with ServeProcess(command, environment, directory) as server:
        server.wait_ready(f"{url}/health/ready", timeout=30)
        yield Served(url, request.param, environment, directory, forking)
        assert server.terminate() == 0
        assert "Traceback" not in server.output()
