"""A third-party OpenID provider, and authapi in another process, over real sockets."""

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from authapi.errors import ConfigurationError
from authapi.testing import PASSWORD
from authapi.verify import RemoteIntrospection, RemoteJWT, TokenPolicy
from tests.servers.forked import Forking
from tests.servers.process import ServeProcess, free_port
from tests.verify.conftest import bearer, open_app

CLIENT = "a-client"


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Runs an OpenID provider with RS256 and one user, in another process because it warns."""
    folder, port = tmp_path_factory.mktemp("provider"), free_port()
    claims = {"sub": "carol", "email": "carol@example.com", "email_verified": True}
    command = [sys.executable, "-m", "oidc_provider_mock", "--port", str(port)]
    command += ["--user-claims", json.dumps(claims)]
    environment = {"PATH": os.environ["PATH"], "AUTHLIB_INSECURE_TRANSPORT": "1"}
    with ServeProcess(command, environment, folder) as process:
        url = f"http://127.0.0.1:{port}"
        process.wait_ready(f"{url}/jwks", timeout=60)
        yield url


def login(provider: str, client_id: str = CLIENT) -> str:
    """Returns the ID token of an authorization code flow of a browser and a client."""
    callback = "http://127.0.0.1:9/callback"
    with httpx.Client(trust_env=False) as browser:
        query = {
            "client_id": client_id,
            "redirect_uri": callback,
            "response_type": "code",
            "scope": "openid email profile",
        }
        answer = browser.post(f"{provider}/oauth2/authorize", params=query, data={"sub": "carol"})
        code = parse_qs(urlsplit(answer.headers["location"]).query)["code"][0]
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": callback}
        answer = browser.post(f"{provider}/oauth2/token", data=form, auth=(client_id, "secret"))
        token: str = answer.json()["id_token"]
        return token


async def test_openid_provider(provider: str) -> None:
    # Its only JWTs are ID tokens, with `typ` JWT: only the audience separates them.
    policy = TokenPolicy(types=("JWT",))
    strategy = RemoteJWT(provider, CLIENT, policy=policy, subjects_are_ids=False)
    token = login(provider)
    async with open_app(strategy) as api:
        answer = await api.get("/who", headers=bearer(token))
        assert answer.status_code == 200, answer.text
        assert answer.json()["email"] == "carol@example.com"
        assert (await api.get("/verified", headers=bearer(token))).json() == "carol@example.com"
        assert (await api.get("/orders", headers=bearer(token))).status_code == 403
        another = login(provider, "another-client")
        assert (await api.get("/who", headers=bearer(another))).status_code == 401
        changed = token[:-5] + ("A" if token[-5] != "A" else "B") + token[-4:]
        assert (await api.get("/who", headers=bearer(changed))).status_code == 401
    async with open_app(RemoteJWT(provider, CLIENT)) as api:
        assert (await api.get("/who", headers=bearer(token))).status_code == 401, "no access token"


async def test_openid_provider_with_another_issuer_name(provider: str) -> None:
    with pytest.raises(ConfigurationError, match="names another issuer"):
        async with open_app(RemoteJWT(f"{provider}/", CLIENT)):
            pass


@dataclass(frozen=True)
class Served:
    """A running authapi with one account."""

    url: str
    process: ServeProcess
    environment: dict[str, str]
    user: dict[str, object]

    async def login(self, strategy: str) -> str:
        """Logs in and returns the access token."""
        body = {"email": self.user["email"], "password": PASSWORD, "strategy": strategy}
        token: str = (await self.post("/login", json=body)).json()["access_token"]
        return token

    def inspector(self) -> str:
        """Creates a token with the scope `introspect` by the command line."""
        command = [sys.executable, "-m", "authapi", "tokens", "create", str(self.user["email"])]
        command += ["--name", "orders", "--scope", "introspect", "--json"]
        made = subprocess.run(
            command, env=self.environment, check=True, capture_output=True, timeout=60
        )
        token: str = json.loads(made.stdout)["access_token"]
        return token

    async def post(self, path: str, **options: Any) -> httpx.Response:
        async with httpx.AsyncClient(base_url=self.url, trust_env=False, timeout=30) as there:
            return await there.post(path, **options)


@pytest.fixture
async def served(tmp_path: Path, forking: Forking) -> AsyncIterator[Served]:
    """Runs authapi in another process."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    environment = {
        "PATH": os.environ["PATH"],
        "AUTHAPI_DATA_DIR": str(tmp_path / "data"),
        "AUTHAPI_CHEAP_HASHES": "true",
        "AUTHAPI_PORT": str(port),
        "AUTHAPI_SCOPES": "orders:read=Read orders",
    }
    with forking.start(["serve"], environment, tmp_path) as process:
        process.wait_ready(f"{url}/health/ready", timeout=60)
        person = {"email": "alice@example.com", "password": PASSWORD}
        async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=30) as there:
            user = (await there.post("/register", json=person)).json()
        yield Served(url, process, environment, user)


async def test_jwt_of_authapi_in_another_process(served: Served) -> None:
    token = await served.login("jwt")
    policy = TokenPolicy(max_lifetime=timedelta(hours=1))
    async with open_app(RemoteJWT(served.url, "authapi", policy=policy)) as api:
        seen = await api.get("/who", headers=bearer(token))
        assert seen.status_code == 200, seen.text
        assert seen.json()["user_id"] == served.user["id"]
        assert seen.json()["scopes"] == ["orders:read"]
        assert seen.json()["amr"] == ["pwd"]
        assert (await api.get("/orders", headers=bearer(token))).json() == served.user["id"]
        assert (await api.get("/fresh", headers=bearer(token))).status_code == 200
        served.process.kill()
        assert (await api.get("/orders", headers=bearer(token))).status_code == 200
        assert (await api.get("/orders", headers=bearer("x.y.z"))).status_code == 401


async def test_introspection_at_authapi_in_another_process(served: Served) -> None:
    strategy = RemoteIntrospection(
        f"{served.url}/token/introspect",
        served.inspector(),
        issuer=served.url,
        cache_for=timedelta(0),
    )
    token = await served.login("token")
    renewable = await served.post(
        "/login",
        json={"email": served.user["email"], "password": PASSWORD, "strategy": "jwt"},
    )
    async with open_app(strategy) as api:
        assert (await api.get("/orders", headers=bearer(token))).json() == served.user["id"]
        assert (await api.get("/fresh", headers=bearer(token))).status_code == 200
        refresh_token = renewable.json()["refresh_token"]
        assert (await api.get("/who", headers=bearer(refresh_token))).status_code == 401
        assert (await api.get("/who", headers=bearer(token[:-1] + "x"))).status_code == 401
        assert (await served.post("/logout", headers=bearer(token))).status_code == 204
        assert (await api.get("/orders", headers=bearer(token))).status_code == 401, "at once"
        served.process.kill()
        away = await api.get("/orders", headers=bearer(token))
        assert (away.status_code, away.json()["code"]) == (503, "issuer_unavailable")
