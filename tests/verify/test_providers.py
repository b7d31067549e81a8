"""Providers that nobody here wrote, and authapi itself in another process, over real sockets."""

import json
import os
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from authapi.errors import ConfigurationError
from authapi.testing import PASSWORD
from authapi.verify import RemoteJWT
from tests.servers.process import ServeProcess, free_port
from tests.verify.conftest import bearer, open_app

CLIENT = "a-client"


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An OpenID provider, RS256, with one user; a process of its own, as it lives on warnings."""
    folder, port = tmp_path_factory.mktemp("provider"), free_port()
    claims = {"sub": "carol", "email": "carol@example.com", "email_verified": True}
    command = [sys.executable, "-m", "oidc_provider_mock", "--port", str(port)]
    command += ["--user-claims", json.dumps(claims)]
    environment = {"PATH": os.environ["PATH"], "AUTHLIB_INSECURE_TRANSPORT": "1"}
    with ServeProcess(command, environment, folder) as process:
        url = f"http://127.0.0.1:{port}"
        process.wait_ready(f"{url}/jwks", timeout=40)
        yield url


def login(provider: str, client_id: str = CLIENT) -> str:
    """The ID token of an authorization code flow, as a browser and a client go through it."""
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


async def test_an_openid_provider(provider: str) -> None:
    # It has no JWTs but ID tokens, of which `typ` is JWT: the audience tells whose they are.
    strategy = RemoteJWT(provider, CLIENT, types=("JWT",), subjects_are_ids=False)
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


async def test_an_openid_provider_under_another_name(provider: str) -> None:
    with pytest.raises(ConfigurationError, match="names another issuer"):
        async with open_app(RemoteJWT(f"{provider}/", CLIENT)):
            pass


async def test_authapi_in_another_process(tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    environment = {
        "PATH": os.environ["PATH"],
        "AUTHAPI_DATA_DIR": str(tmp_path / "data"),
        "AUTHAPI_PORT": str(port),
        "AUTHAPI_SCOPES": "orders:read=Read orders",
    }
    command = [sys.executable, "-m", "authapi", "serve"]
    strategy = RemoteJWT(
        url, "authapi", jwks_url=f"{url}/.well-known/jwks.json", max_lifetime=timedelta(hours=1)
    )
    with ServeProcess(command, environment, tmp_path) as process:
        process.wait_ready(f"{url}/health/ready", timeout=40)
        async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=30) as there:
            person = {"email": "alice@example.com", "password": PASSWORD}
            user = (await there.post("/register", json=person)).json()
            answer = await there.post("/login", json={**person, "strategy": "jwt"})
            token = answer.json()["access_token"]
        async with open_app(strategy) as api:
            seen = await api.get("/who", headers=bearer(token))
            assert seen.status_code == 200, seen.text
            assert seen.json()["user_id"] == user["id"]
            assert seen.json()["scopes"] == ["orders:read"]
            assert seen.json()["amr"] == ["pwd"]
            assert (await api.get("/orders", headers=bearer(token))).json() == user["id"]
            assert (await api.get("/fresh", headers=bearer(token))).status_code == 200
            process.kill()
            assert (await api.get("/orders", headers=bearer(token))).status_code == 200
            assert (await api.get("/orders", headers=bearer("x.y.z"))).status_code == 401
