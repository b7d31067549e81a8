"""`RemoteJWT` verifies JWT access tokens of oidc-provider (npm) in every algorithm."""

import os
import shutil
import subprocess
from collections.abc import Iterator

import httpx
import pytest

from authapi.verify import RemoteJWT, TokenPolicy
from tests.interop.issuers import ALGORITHMS, HERE, verifies
from tests.servers.process import ServeProcess, free_port
from tests.verify.conftest import bearer, open_app

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Runs the provider. Fails without Node.js."""
    folder, port = tmp_path_factory.mktemp("provider"), free_port()
    for name in ("package.json", "provider.js"):
        shutil.copy(HERE / "provider" / name, folder)
    # Without a lock file, which would contain the host of the registry.
    quiet = ("--silent", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts")
    subprocess.run(["npm", "install", "--prefix", folder, *quiet], check=True, timeout=180)
    command = ["node", str(folder / "provider.js"), str(port)]
    with ServeProcess(command, {"PATH": os.environ["PATH"]}, folder) as process:
        url = f"http://127.0.0.1:{port}"
        process.wait_ready(f"{url}/jwks", timeout=60)
        yield url


def issued(provider: str, resource: str) -> str:
    """Returns an access token of the client for a resource."""
    form = {"grant_type": "client_credentials", "resource": resource, "scope": "orders:read"}
    with httpx.Client(trust_env=False) as http:
        answer = http.post(f"{provider}/token", data=form, auth=("shop", "the-secret-of-the-shop"))
    assert answer.status_code == 200, answer.text
    token: str = answer.json()["access_token"]
    return token


@verifies("oidc-provider (Node.js)", *ALGORITHMS)
async def test_every_algorithm_of_oidc_provider(provider: str) -> None:
    resources = [f"urn:orders:{algorithm}" for algorithm in ALGORITHMS]
    async with open_app(RemoteJWT(provider, resources)) as api:
        for resource in resources:
            token = issued(provider, resource)
            answer = await api.get("/who", headers=bearer(token))
            assert answer.status_code == 200, resource
            assert answer.json()["scopes"] == ["orders:read"]
            assert (await api.get("/orders", headers=bearer(token))).status_code == 200
            head, claims, signature = token.split(".")
            changed = ("A" if signature[9] != "A" else "B").join((signature[:9], signature[10:]))
            forged = f"{head}.{claims}.{changed}"
            assert (await api.get("/who", headers=bearer(forged))).status_code == 401, resource
        for algorithm in ("HS256", "HS384", "HS512"):
            symmetric = issued(provider, f"urn:orders:{algorithm}")
            assert (await api.get("/who", headers=bearer(symmetric))).status_code == 401
        token = issued(provider, "urn:stock:ES256")
        assert (await api.get("/who", headers=bearer(token))).status_code == 401


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_pinned_algorithm(provider: str, algorithm: str) -> None:
    resources = [f"urn:orders:{name}" for name in ALGORITHMS]
    policy = TokenPolicy(algorithms=(algorithm,))
    async with open_app(RemoteJWT(provider, resources, policy=policy)) as api:
        for name, resource in zip(ALGORITHMS, resources, strict=True):
            answer = await api.get("/who", headers=bearer(issued(provider, resource)))
            assert answer.status_code == (200 if name == algorithm else 401), name


async def test_tokens_without_kid(provider: str) -> None:
    resources = [f"urn:unusual:{algorithm}" for algorithm in ALGORITHMS]
    for client, status in (("shop", 200), ("another", 401)):
        policy = TokenPolicy(client_ids=client)
        async with open_app(RemoteJWT(provider, resources, policy=policy)) as api:
            for resource in resources:
                token = issued(provider, resource)
                answer = await api.get("/who", headers=bearer(token))
                assert answer.status_code == status, resource
