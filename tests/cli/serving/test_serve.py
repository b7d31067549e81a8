"""`authapi serve` as a process: output, limits on the socket, workers and shutdown."""

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.cli.processes import ACCOUNT, environment_in, run_python, serve
from tests.servers.forked import Forking
from tests.servers.process import ServeProcess, free_port


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def server(tmp_path: Path, port: int, forking: Forking) -> Iterator[ServeProcess]:
    environment = environment_in(tmp_path)
    with forking.start(["serve", "--port", str(port)], environment, tmp_path) as process:
        process.wait_ready(f"http://127.0.0.1:{port}/health/ready", timeout=60)
        yield process


def test_serve_prints_its_urls_and_protects_its_files(
    server: ServeProcess, port: int, tmp_path: Path
) -> None:
    output = server.output()
    assert f"http://127.0.0.1:{port}/docs" in output
    assert f"sqlite:///{tmp_path}/data/authapi.db" in output
    assert "session, token, jwt" in output
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700
    for name in ("secret", "authapi.db"):
        assert (tmp_path / "data" / name).stat().st_mode & 0o777 == 0o600


def test_port_in_use_is_a_one_line_error(server: ServeProcess, port: int, tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    with serve(tmp_path / "second", port) as second:
        assert second.wait(timeout=30) == 1
        [line] = second.output().splitlines()
        assert line.startswith(f"authapi: cannot listen on 127.0.0.1 port {port}: ")


async def test_sigterm_completes_requests_in_progress(server: ServeProcess, port: int) -> None:
    base = f"http://127.0.0.1:{port}"
    async with httpx.AsyncClient(base_url=base, timeout=30) as http:
        assert (await http.post("/register", json=ACCOUNT)).status_code == 201
        logins = [asyncio.create_task(http.post("/login", json=ACCOUNT)) for _ in range(8)]
        done, _ = await asyncio.wait(logins, return_when=asyncio.FIRST_COMPLETED)
        assert len(done) < len(logins), "some requests are still in progress"
        ended = asyncio.create_task(asyncio.to_thread(server.terminate))
        answers = await asyncio.gather(*logins)
    assert [answer.status_code for answer in answers] == [200] * len(logins)
    assert await ended == 0


@pytest.mark.slow
def test_workers_share_one_port_and_one_secret(tmp_path: Path, port: int) -> None:
    with serve(tmp_path, port, "--workers", "2") as server:
        server.wait_ready(f"http://127.0.0.1:{port}/health/ready", timeout=60)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}") as http:
            assert http.post("/register", json=ACCOUNT).status_code == 201
            login = http.post("/login", json={**ACCOUNT, "strategy": "jwt"})
            headers = {"Authorization": f"Bearer {login.json()['access_token']}"}
        for _ in range(20):  # a new connection each, which either worker may accept
            assert httpx.get(f"http://127.0.0.1:{port}/me", headers=headers).status_code == 200
        assert server.terminate() == 0
        assert "Traceback" not in server.output()


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"POST /register HTTP/1.1\r\nContent-Length: 52428800\r\n", b"413"),
        (b"POST /login/ HTTP/1.1\r\nContent-Length: 0\r\n", b"404"),
        (b"GET /me HTTP/1.1\r\nAuthorization: Bearer " + b"a" * 8192 + b"\r\n", b"431"),
        (b"POST /login HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n", b"400"),
    ],
    ids=["50-mb-announced", "trailing-slash", "long-authorization", "two-lengths"],
)
def test_http_limits_are_enforced_on_the_socket(
    server: ServeProcess, port: int, head: bytes, status: bytes
) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(head + b"Host: 127.0.0.1\r\nContent-Type: application/json\r\n\r\n")
        answer = connection.recv(65536)
    assert answer.split(b" ", 2)[1] == status
    lowered = answer.lower()
    assert b"\r\nserver:" not in lowered
    assert b"\r\nlocation:" not in lowered


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize(
    ("package", "replacement"),
    [
        ("httptools", "None"),
        ("websockets", "None"),
        ("websockets", "types.ModuleType('websockets')"),  # too old
    ],
)
def test_missing_protocol_package_is_a_one_line_error(
    package: str, replacement: str, workers: str, tmp_path: Path
) -> None:
    program = (
        f"import sys, types; sys.modules[{package!r}] = {replacement}\n"
        f"sys.argv = ['authapi', 'serve', '--port', '0', '--workers', {workers!r}]\n"
        "from authapi.cli.commands import main; main()"
    )
    done = run_python("-c", program, folder=tmp_path)
    [line] = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (1, "")
    assert line.startswith(f"authapi: serve needs {package} in a version ")
    assert line.endswith("pip install --upgrade 'uvicorn[standard]'")


@pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_unknown_variable_is_logged_once(workers: str, tmp_path: Path, port: int) -> None:
    settings = {"AUTHAPI_SECERT": "hunter2", "AUTHAPI_WORKERS": workers}
    with serve(tmp_path, port, **settings) as service:
        service.wait_ready(f"http://127.0.0.1:{port}/health/ready", 30)
        assert service.terminate() == 0
        output = service.output()
    assert output.count("AUTHAPI_SECERT is not a setting and has no effect") == 1
    assert "did you mean AUTHAPI_SECRET?" in output
    assert "hunter2" not in output
