"""The proxy configurations in deploy/: their syntax, and the headers that they pass on."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.proxies.testbed.backends import Backends
from tests.proxies.testbed.programs import program
from tests.proxies.testbed.proxies import NAMES, Certificate, Proxies, placed, text_of, written
from tests.proxies.testbed.wire import ask
from tests.servers.process import free_port

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", NAMES)
def test_proxy_accepts_its_configuration(name: str, tmp_path: Path) -> None:
    text = text_of(name)
    if name != "caddy":
        # Keeps both backend addresses; the port must be free on this machine.
        text = placed(text, free_port(), [8000, 8001], Certificate(tmp_path), tmp_path)
    file = str(written(name, text, tmp_path))
    check = {
        "caddy": ["validate", "--adapter", "caddyfile", "--config", file],
        "nginx": ["-t", "-q", "-e", "stderr", "-c", file],
        "haproxy": ["-c", "-q", "-f", file],
    }[name]
    done = subprocess.run(
        [program(name), *check],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    if name != "caddy":  # Caddy logs its progress
        assert done.stderr == "", "no warnings"


@pytest.mark.parametrize("name", NAMES)
def test_forwarded_headers_of_the_client_are_ignored(
    name: str, backends: Backends, proxies: Proxies
) -> None:
    serve = backends["serve"]
    address = proxies.address(name, serve, "strict")
    account = serve.accounts[0]
    # If trusted, either would show: another address in the events, or 403 https_required.
    claims = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "http"}
    body = {"email": account.email, "password": "wrong horse battery staple"}
    assert ask(address, "POST", "/login", headers=claims, body=body).status == 401
    answer = ask(address, "GET", "/me/events", headers={**account.jwt, **claims})
    assert answer.status == 200
    assert {event["ip"] for event in answer.json()["items"]} == {"127.0.0.1"}


@pytest.mark.parametrize("name", NAMES)
def test_connections_to_the_service_are_reused(
    name: str, backends: Backends, proxies: Proxies
) -> None:
    serve = backends["serve"]
    address = proxies.address(name, serve, "strict")
    opened = _connections(serve.port)
    for _ in range(30):
        assert ask(address, "GET", "/health/live").status == 200
    # At most one socket for each worker of the proxy, and not one for each request.
    assert len(_connections(serve.port) - opened) < 10


def _connections(port: int) -> set[str]:
    """Returns the connections to `port` on loopback in any state, also TIME_WAIT (Linux)."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    ends = [line.split()[1:3] for line in lines]
    here = f"0100007F:{port:04X}"
    return {" ".join(pair) for pair in ends if here in pair}
