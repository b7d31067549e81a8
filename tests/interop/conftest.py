"""A real `authapi serve` for each algorithm, with its command line."""

import asyncio
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import httpx
import pytest

from authapi import Settings
from authapi.domain.email_address import parse_email
from authapi.services import Services
from tests.servers.forked import Forking
from tests.servers.process import free_port
from tests.web.logins import sign_in

PASSWORD = "correct horse battery staple"
_numbers = count(1)


@dataclass(frozen=True)
class Served:
    """A running service."""

    url: str
    algorithm: str
    environment: Mapping[str, str]
    directory: Path
    forking: Forking

    def register(self) -> str:
        """Registers a new account; returns its e-mail address."""
        email = f"user{next(_numbers)}@example.com"
        body = {"email": email, "password": PASSWORD}
        assert httpx.post(f"{self.url}/register", json=body).status_code == 201
        return email

    def login(self, strategy: str = "jwt") -> dict[str, str]:
        """Registers and logs in a new account; returns the response."""
        body = {"email": self.register(), "password": PASSWORD, "strategy": strategy}
        answer = httpx.post(f"{self.url}/login", json=body)
        assert answer.status_code == 200
        found: dict[str, str] = answer.json()
        return found

    def run(self, *arguments: str, text: str = "") -> str:
        """Runs `authapi` with these arguments; returns its output."""
        done = self.forking.run(arguments, self.environment, self.directory, text)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def rotated(self) -> str:
        """Rotates the keys in another process of this service; returns a JWT that it signs.

        The running process signs with the next key only after it has read the keys again, up to
        half a minute later. It accepts JWTs of other processes that use this key at once.
        """
        return asyncio.run(self._rotated())

    def metadata(self) -> dict[str, str]:
        """Returns the metadata of the service (RFC 8414)."""
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
            user = await services.accounts.registration.create(address, PASSWORD)
            headers = await sign_in(services, user, "jwt")
            return headers["authorization"].removeprefix("Bearer ")
        finally:
            await services.stop()


@dataclass(frozen=True)
class Gateway:
    """A token with the scope `introspect`, created by an operator for a resource server."""

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
        "AUTHAPI_CHEAP_HASHES": "true",
        "AUTHAPI_PUBLIC_URL": url,
        "AUTHAPI_JWT_ALGORITHM": request.param,
        "AUTHAPI_SCOPES": "reports:read",
    }
    command = ["serve", "--port", str(port)]
    with forking.start(command, environment, directory) as server:
        server.wait_ready(f"{url}/health/ready", timeout=60)
        yield Served(url, request.param, environment, directory, forking)
        assert server.terminate() == 0
        assert "Traceback" not in server.output()
