"""The files of deploy/: the proxies accept them, and pass on what they should and no more."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.proxies.bed.backends import Backends
from tests.proxies.bed.fronts import NAMES, Certificate, Fronts, placed, text_of, written
from tests.proxies.bed.programs import program
from tests.proxies.bed.wire import ask
from tests.servers.process import free_port

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", NAMES)
def test_the_proxy_accepts_the_file(name: str, tmp_path: Path) -> None:
    text = text_of(name)
    if name != "caddy":
        # Both addresses of API processes are kept; the port must be free on the machine.
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
    if name != "caddy":  # which logs what it does
        assert done.stderr == "", "a warning"


@pytest.mark.parametrize("name", NAMES)
def test_the_service_hears_of_the_client_and_nothing_that_the_client_says_of_itself(
    name: str, backends: Backends, fronts: Fronts
) -> None:
    serve = backends["serve"]
    address = fronts.address(name, serve, "strict")
    person = serve.people[0]
    # Believed, either would be seen: another address in the events, or 403 https_required.
    claims = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "http"}
    body = {"email": person.email, "password": "wrong horse battery staple"}
    assert ask(address, "POST", "/login", headers=claims, body=body).status == 401
    answer = ask(address, "GET", "/me/events", headers={**person.jwt, **claims})
    assert answer.status == 200
    assert {event["ip"] for event in answer.json()["items"]} == {"127.0.0.1"}


@pytest.mark.parametrize("name", NAMES)
def test_connections_to_the_service_are_kept(name: str, backends: Backends, fronts: Fronts) -> None:
    serve = backends["serve"]
    address = fronts.address(name, serve, "strict")
    opened = _connections(serve.port)
    for _ in range(30):
        assert ask(address, "GET", "/health/live").status == 200
    # One socket for each worker of the proxy at most, and none for each request.
    assert len(_connections(serve.port) - opened) < 10


def _connections(port: int) -> set[str]:
    """Connections of any state to `port` on loopback, those in TIME_WAIT among them (Linux)."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    ends = [line.split()[1:3] for line in lines]
    here = f"0100007F:{port:04X}"
    return {" ".join(pair) for pair in ends if here in pair}
