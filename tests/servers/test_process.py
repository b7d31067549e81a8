import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.servers.process import PORTS, Reservations, ServeProcess, free_port

ROOT = Path(__file__).parents[2]


def python(code: str, directory: Path, **environment: str) -> ServeProcess:
    return ServeProcess([sys.executable, "-c", code], environment, directory)


def http_server(port: int, directory: Path) -> ServeProcess:
    command = [sys.executable, "-u", "-m", "http.server", str(port), "--bind", "127.0.0.1"]
    return ServeProcess(command, {}, directory)


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def refuses(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) != 0


def test_a_free_port_is_none_that_a_connection_can_take() -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", free_port()))
        listening.listen()
        taken = listening.getsockname()[1]
        with socket.create_connection(("127.0.0.1", taken)) as outgoing:
            found = {free_port() for _ in range(200)}
            assert outgoing.getsockname()[1] not in PORTS
    assert found <= set(PORTS) - {taken}
    assert len(found) > 150


def test_server_becomes_ready_and_stops_on_sigterm(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{(port := free_port())}/"
    with http_server(port, tmp_path) as server:
        assert server.wait_ready(url).status_code == 200
        assert server.terminate() == -signal.SIGTERM
    assert '"GET / HTTP/1.1" 200' in server.output()
    with pytest.raises(httpx.ConnectError):
        httpx.get(url, trust_env=False)


def test_only_a_2xx_response_is_ready(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{(port := free_port())}"
    with http_server(port, tmp_path) as server:
        server.wait_ready(f"{url}/")
        with pytest.raises(TimeoutError, match="status 404"):
            server.wait_ready(f"{url}/missing", timeout=0.5)


def test_early_exit_raises_with_the_output(tmp_path: Path) -> None:
    code = "import sys; print('to stdout'); sys.exit('to stderr')"
    with (
        python(code, tmp_path) as server,
        pytest.raises(RuntimeError, match=r"(?s)exited with 1 .*to stdout\nto stderr"),
    ):
        server.wait_ready(f"http://127.0.0.1:{free_port()}/", timeout=60)


def test_environment_is_not_inherited(tmp_path: Path) -> None:
    with python("import os; print(os.environ.get('PATH'), os.environ['X'])", tmp_path, X="1") as it:
        assert it.wait() == 0
        assert it.output() == "None 1\n"


def test_terminate_returns_the_exit_code(tmp_path: Path) -> None:
    code = """
import signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
print("ready", flush=True)
signal.pause()
"""
    with python(code, tmp_path) as server:
        eventually(lambda: server.output() == "ready\n")
        assert server.terminate() == 3


def test_terminate_kills_a_process_that_ignores_sigterm(tmp_path: Path) -> None:
    code = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(99)
"""
    with python(code, tmp_path) as server:
        eventually(lambda: server.output() == "ready\n")
        with pytest.raises(TimeoutError, match="still running"):
            server.terminate(timeout=0.2)
        assert server.wait(0) == -signal.SIGKILL


@pytest.mark.parametrize(("last_line", "code"), [("", 0), ("time.sleep(99)", -signal.SIGKILL)])
def test_children_are_killed_with_the_process(tmp_path: Path, last_line: str, code: int) -> None:
    port = free_port()
    program = f"""
import socket, subprocess, sys, time
subprocess.Popen([sys.executable, "-m", "http.server", "{port}", "--bind", "127.0.0.1"])
while socket.socket().connect_ex(("127.0.0.1", {port})): time.sleep(0.01)
print("ready", flush=True)
{last_line}
"""
    with python(program, tmp_path) as server:
        eventually(lambda: "ready" in server.output())
        assert (server.kill() if last_line else server.wait()) == code
    eventually(lambda: refuses(port))  # SIGKILL takes effect asynchronously


def test_a_process_chooses_each_port_once() -> None:
    found = [free_port() for _ in range(500)]
    assert len(set(found)) == 500


def test_a_chosen_port_is_reserved_until_its_process_ends(tmp_path: Path) -> None:
    reserved = tmp_path / "ports"
    code = (
        "import sys; from pathlib import Path; from tests.servers.process import Reservations\n"
        f"ports = Reservations(Path({str(reserved)!r}))\n"
        "print([ports.add(20_000), ports.add(20_000), ports.add(20_001)], flush=True)\n"
        "import time; time.sleep(60)"
    )
    ports = Reservations(reserved)
    assert ports.add(20_001)
    with python(code, tmp_path, PYTHONPATH=str(ROOT)) as other:
        eventually(lambda: other.output() == "[True, False, False]\n")
        assert not ports.add(20_000)
        other.kill()
        assert ports.add(20_000)
