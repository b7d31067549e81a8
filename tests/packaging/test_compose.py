"""compose.yaml without a container engine.

Two API processes, PostgreSQL, Valkey and Caddy run on loopback with the configuration of the file.
"""

import os
import re
import ssl
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from authapi.settings import Settings
from tests.servers.postgres import PostgresCluster
from tests.servers.process import ServeProcess, free_port
from tests.servers.valkey import ValkeyServer

ROOT = Path(__file__).resolve().parents[2]
COMPOSE: Mapping[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: Mapping[str, Any] = COMPOSE["services"]
SECRET = "9f1c27d04ab86e35f7c0d8b142a69e53"
ACCOUNT = {"email": "alice@example.com", "password": "correct horse battery staple"}


def environment(**chosen: str) -> dict[str, str]:
    """Returns the environment of an API process, with `${NAME:-default}` replaced as by compose."""

    def fill(match: re.Match[str]) -> str:
        name, default = match[1], match[2]
        return chosen.get(name) or default.removeprefix(":-").removeprefix(":?")

    given: Mapping[str, str] = SERVICES["api-1"]["environment"]
    return {name: re.sub(r"\$\{(\w+)([^}]*)\}", fill, text) for name, text in given.items()}


def test_compose_services() -> None:
    assert set(SERVICES) == {"api-1", "api-2", "proxy", "postgres", "valkey"}
    assert SERVICES["api-1"] == SERVICES["api-2"]
    assert [name for name, service in SERVICES.items() if "ports" in service] == ["proxy"]
    assert all("latest" not in service.get("image", "") for service in SERVICES.values())


def test_environment_is_a_valid_production_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    found = environment(AUTHAPI_SECRET=SECRET, POSTGRES_PASSWORD="guess-me-not")
    names = {name.removeprefix("AUTHAPI_").lower() for name in found}
    assert names <= set(Settings.model_fields)
    for name, value in found.items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert (settings.env, settings.migrates, settings.cookie_secure) == ("production", True, True)
    # Longer than a health check interval, and shorter than the stop grace period.
    caddyfile = (ROOT / "deploy" / "Caddyfile").read_text()
    asks = dict(re.findall(r"health_(interval|timeout) (\d+)s", caddyfile))
    assert settings.shutdown_delay > int(asks["interval"]) + int(asks["timeout"])
    patience = int(SERVICES["api-1"]["stop_grace_period"].removesuffix("s"))
    assert patience > settings.shutdown_delay + settings.shutdown_timeout
    [network] = COMPOSE["networks"]["default"]["ipam"]["config"]
    assert settings.trusted_proxies == (network["subnet"],)


def test_missing_secrets_prevent_the_start() -> None:
    text = (ROOT / "compose.yaml").read_text()
    assert re.findall(r"\$\{(AUTHAPI_SECRET|POSTGRES_PASSWORD)(:.)", text) == [
        ("AUTHAPI_SECRET", ":?"),
        ("POSTGRES_PASSWORD", ":?"),
        ("POSTGRES_PASSWORD", ":?"),
    ]


@dataclass
class House:
    """All services of the file, running."""

    url: str
    apis: list[ServeProcess]
    trust: ssl.SSLContext


@pytest.fixture
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("compose")
    port, api_ports = free_port(), [free_port(), free_port()]
    url = f"https://localhost:{port}"
    with ExitStack() as stack:
        postgres = stack.enter_context(PostgresCluster())
        valkey = stack.enter_context(ValkeyServer())
        given = environment(PUBLIC_URL=url, AUTHAPI_SECRET=SECRET)
        given |= {
            "PATH": os.environ["PATH"],
            "AUTHAPI_DATABASE_URL": postgres.create_database("compose"),
            "AUTHAPI_REDIS_URL": valkey.url,
            "AUTHAPI_TRUSTED_PROXIES": "127.0.0.0/8",
        }
        apis = []
        for api_port in api_ports:  # concurrently on an empty database: one of them migrates
            own = {**given, "AUTHAPI_METRICS_PORT": str(free_port())}
            command = [sys.executable, "-m", "authapi", "serve", "--port", str(api_port)]
            apis.append(stack.enter_context(ServeProcess(command, own, folder)))
        for api, api_port in zip(apis, api_ports, strict=True):
            api.wait_ready(f"http://127.0.0.1:{api_port}/health/ready")
        caddy = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "XDG_DATA_HOME": str(folder),
            "SITE_ADDRESS": url,
            "UPSTREAMS": " ".join(f"127.0.0.1:{api_port}" for api_port in api_ports),
        }
        config = str(ROOT / "deploy" / "Caddyfile")
        command = ["caddy", "run", "--adapter", "caddyfile", "--config", config]
        proxy = stack.enter_context(ServeProcess(command, caddy, folder))
        yield House(url, apis, _trust(proxy, folder / "caddy/pki/authorities/local/root.crt", url))


def _trust(proxy: ServeProcess, root: Path, url: str) -> ssl.SSLContext:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if root.exists():
            trust = ssl.create_default_context(cafile=str(root))
            try:
                if httpx.get(f"{url}/health/ready", verify=trust, trust_env=False).is_success:
                    return trust
            except httpx.TransportError:
                pass
        time.sleep(0.05)
    raise TimeoutError(proxy.output())


@pytest.mark.packaging
def test_login_and_logout_apply_to_both_processes(house: House) -> None:
    with httpx.Client(base_url=house.url, verify=house.trust, trust_env=False) as browser:
        assert browser.post("/register", json=ACCOUNT).status_code == 201
        answer = browser.post("/login", json=ACCOUNT, headers={"X-Forwarded-For": "198.51.100.7"})
        assert answer.status_code == 200
        assert answer.headers["set-cookie"].startswith("__Host-authapi=")
        assert "secure" in answer.headers["set-cookie"].lower()
        assert answer.headers["strict-transport-security"]
        cookie = {"Cookie": answer.headers["set-cookie"].partition(";")[0]}
        assert {browser.get("/me").status_code for _ in range(20)} == {200}
        events = browser.get("/me/events").json()
        assert {item["ip"] for item in events["items"] if item["type"] == "login"} == {"127.0.0.1"}
        assert browser.post("/logout").status_code == 204
        browser.cookies.clear()
        # The process with the logout rejects at once, the other after the notification.
        deadline = time.monotonic() + Settings().identity_cache_max_staleness.total_seconds()
        answers = {200}
        while answers != {401}:
            assert time.monotonic() < deadline, answers
            answers = {browser.get("/me", headers=cookie).status_code for _ in range(20)}
        assert browser.get("/docs").status_code == 404


@pytest.mark.packaging
def test_service_stays_available_without_one_process(house: House) -> None:
    with (
        httpx.Client(base_url=house.url, verify=house.trust, trust_env=False) as browser,
        ThreadPoolExecutor(1) as aside,
    ):
        ended, statuses = aside.submit(house.apis[0].terminate, 30), set()
        while not ended.done():
            statuses.add(browser.get("/health/live").status_code)
        assert (ended.result(), statuses) == (0, {200})
        assert {browser.get("/health/ready").status_code for _ in range(40)} == {200}
        assert browser.post("/register", json=ACCOUNT).status_code == 201
        assert browser.post("/login", json=ACCOUNT).status_code == 200
