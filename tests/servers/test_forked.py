import os
import signal
from pathlib import Path

import pytest

from tests.servers.forked import Forking
from tests.servers.process import free_port


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "AUTHAPI_DATA_DIR": str(tmp_path / "data")}


def serve(port: int) -> list[str]:
    return ["serve", "--port", str(port)]


def test_forked_service_becomes_ready_and_stops(
    forking: Forking, environment: dict[str, str], tmp_path: Path
) -> None:
    url = f"http://127.0.0.1:{(port := free_port())}/health/ready"
    with forking.start(serve(port), environment, tmp_path) as server:
        assert server.wait_ready(url).status_code == 200
        assert os.getpgid(server.pid) == server.pid
        # Other processes start and end meanwhile.
        assert forking.run(["config"], environment, tmp_path).returncode == 0
        with pytest.raises(TimeoutError, match="still running"):
            server.wait(0)
        assert server.terminate() == 0
    assert "authapi listens on" in server.stdout.read_text()
    assert server.kill() == 0


def test_early_exit_raises_with_the_output(
    forking: Forking, environment: dict[str, str], tmp_path: Path
) -> None:
    environment["AUTHAPI_SECRET"] = "short"
    with (
        forking.start(["serve"], environment, tmp_path) as server,
        pytest.raises(RuntimeError, match=r"(?s)exited with 1 .*AUTHAPI_SECRET"),
    ):
        server.wait_ready(f"http://127.0.0.1:{free_port()}/", timeout=60)


def test_forked_service_ends_with_its_parent(environment: dict[str, str], tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{(port := free_port())}/health/ready"
    with Forking() as parent:
        server = parent.start(serve(port), environment, tmp_path)
        server.wait_ready(url)
        os.kill(server.pid, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(server.pid, 0)


def test_exit_code_of_a_killed_process_is_its_signal(
    forking: Forking, environment: dict[str, str], tmp_path: Path
) -> None:
    with forking.start(serve(free_port()), environment, tmp_path) as server:
        assert server.kill() == -signal.SIGKILL
