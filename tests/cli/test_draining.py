"""`shutdown_delay`: after SIGTERM the service goes on, and tells balancers to look elsewhere."""

import os
import signal
import time
from pathlib import Path

import httpx
import pytest

from tests.cli.test_serve import ACCOUNT, serve
from tests.servers.process import free_port
from tests.web.answers import problem

LONG = "60"
"""Seconds, which no test waits for."""


def get(port: int, path: str) -> httpx.Response:
    """An answer on a connection of its own, which any worker may take."""
    return httpx.get(f"http://127.0.0.1:{port}{path}", trust_env=False)


def until_not_ready(port: int, times: int = 1) -> httpx.Response:
    """The last of so many answers in a row that say so."""
    deadline, found = time.monotonic() + 15, 0
    # One client, as each of these answers ends its connection.
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as http:
        while time.monotonic() < deadline:
            answer = http.get("/health/ready")
            found = found + 1 if answer.status_code == 503 else 0
            if found == times:
                return answer
            time.sleep(0.01)
    raise TimeoutError


def test_it_serves_on_and_is_not_ready(tmp_path: Path) -> None:
    port = free_port()
    with serve(tmp_path, port, AUTHAPI_SHUTDOWN_DELAY=LONG) as server:
        ready = server.wait_ready(f"http://127.0.0.1:{port}/health/ready", timeout=30)
        assert "connection" not in ready.headers
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as kept:
            assert kept.post("/register", json=ACCOUNT).status_code == 201
            os.kill(server.pid, signal.SIGTERM)
            refused = until_not_ready(port)
            problem(refused, 503, "shutting_down")
            # Connections of before and new ones alike: an answer, and the end of the connection.
            answers = [kept.post("/login", json=ACCOUNT), get(port, "/health/live")]
            answers.append(httpx.head(f"http://127.0.0.1:{port}/health/ready", trust_env=False))
            assert [answer.status_code for answer in answers] == [200, 200, 503]
            assert {answer.headers["connection"] for answer in [refused, *answers]} == {"close"}
        assert server.terminate() == 0, "the second signal does not wait"


def test_it_ends_by_itself_after_the_delay(tmp_path: Path) -> None:
    port = free_port()
    with serve(tmp_path, port, AUTHAPI_SHUTDOWN_DELAY="0.5") as server:
        server.wait_ready(f"http://127.0.0.1:{port}/health/ready", timeout=30)
        began = time.monotonic()
        assert server.terminate() == 0
        assert time.monotonic() - began >= 0.5


@pytest.mark.slow
def test_workers_do_the_same(tmp_path: Path) -> None:
    port = free_port()
    with serve(tmp_path, port, "--workers", "2", AUTHAPI_SHUTDOWN_DELAY=LONG) as server:
        server.wait_ready(f"http://127.0.0.1:{port}/health/ready", timeout=60)
        # To all of them, as systemd does; what the supervisor then says to each ends no delay.
        os.killpg(server.pid, signal.SIGTERM)
        until_not_ready(port, times=40)
        children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
        for child in children:
            os.kill(int(child), signal.SIGTERM)
        until_not_ready(port, times=40)
        os.kill(server.pid, signal.SIGTERM)
        assert server.wait() == 0
        assert "Traceback" not in server.output()


def test_ctrl_c_does_not_wait(tmp_path: Path) -> None:
    port = free_port()
    with serve(tmp_path, port, AUTHAPI_SHUTDOWN_DELAY=LONG) as server:
        server.wait_ready(f"http://127.0.0.1:{port}/health/ready", timeout=30)
        os.kill(server.pid, signal.SIGINT)
        server.wait()
