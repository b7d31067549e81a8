"""`shutdown_delay`: after SIGTERM the service keeps serving, but is not ready."""

import os
import signal
import time
from pathlib import Path

import httpx
import pytest

from tests.cli.processes import ACCOUNT, serve
from tests.servers.process import free_port
from tests.web.responses import problem

LONG = "60"
"""Seconds, longer than any test."""


def get(port: int, path: str) -> httpx.Response:
    """Sends a GET request on a new connection, which any worker may accept."""
    return httpx.get(f"http://127.0.0.1:{port}{path}", trust_env=False)


def until_not_ready(port: int, times: int = 1) -> httpx.Response:
    """Returns the last of `times` consecutive responses with status 503."""
    deadline, count = time.monotonic() + 15, 0
    # One client suffices, because each of these responses closes its connection.
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as http:
        while time.monotonic() < deadline:
            answer = http.get("/health/ready")
            count = count + 1 if answer.status_code == 503 else 0
            if count == times:
                return answer
            time.sleep(0.01)
    raise TimeoutError


def test_requests_are_served_during_the_delay_while_not_ready(tmp_path: Path) -> None:
    port = free_port()
    with serve(tmp_path, port, AUTHAPI_SHUTDOWN_DELAY=LONG) as server:
        ready = server.wait_ready(f"http://127.0.0.1:{port}/health/ready", timeout=60)
        assert "connection" not in ready.headers
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as kept:
            assert kept.post("/register", json=ACCOUNT).status_code == 201
            os.kill(server.pid, signal.SIGTERM)
            refused = until_not_ready(port)
            problem(refused, 503, "shutting_down")
            # Existing and new connections get a response, and then are closed.
            answers = [kept.post("/login", json=ACCOUNT), get(port, "/health/live")]
            answers.append(httpx.head(f"http://127.0.0.1:{port}/health/ready", trust_env=False))
            assert [answer.status_code for answer in answers] == [200, 200, 503]
            assert {answer.headers["connection"] for answer in [refused, *answers]} == {"close"}
        assert server.terminate() == 0, "the second signal stops the service at once"


def test_service_stops_after_the_delay(tmp_path: Path) -> None:
    port = free_port()
    with serve(tmp_path, port, AUTHAPI_SHUTDOWN_DELAY="0.5") as server:
        server.wait_ready(f"http://127.0.0.1:{port}/health/ready", timeout=60)
        began = time.monotonic()
        assert server.terminate() == 0
        assert time.monotonic() - began >= 0.5


@pytest.mark.slow
def test_workers_delay_their_shutdown(tmp_path: Path) -> None:
    port = free_port()
    with serve(tmp_path, port, "--workers", "2", AUTHAPI_SHUTDOWN_DELAY=LONG) as server:
        server.wait_ready(f"http://127.0.0.1:{port}/health/ready", timeout=60)
        # All processes get the signal, as from systemd. The signal that the supervisor then sends
        # to each worker does not end the delay.
        os.killpg(server.pid, signal.SIGTERM)
        until_not_ready(port, times=40)
        children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
        for child in children:
            os.kill(int(child), signal.SIGTERM)
        until_not_ready(port, times=40)
        os.kill(server.pid, signal.SIGTERM)
        assert server.wait() == 0
        assert "Traceback" not in server.output()


def test_sigint_stops_without_delay(tmp_path: Path) -> None:
    port = free_port()
    with serve(tmp_path, port, AUTHAPI_SHUTDOWN_DELAY=LONG) as server:
        server.wait_ready(f"http://127.0.0.1:{port}/health/ready", timeout=60)
        os.kill(server.pid, signal.SIGINT)
        server.wait()
