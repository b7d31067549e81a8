import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.servers.process import ServeProcess
from tests.servers.valkey import ValkeyServer


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def refuses(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) != 0


def test_restart_clears_the_data(valkey: ValkeyServer) -> None:
    assert valkey.command("SET", "fruit", "pear") == "+OK"
    assert valkey.command("GET", "fruit") == "$4\r\npear"
    assert valkey.held() == ["fruit"]
    valkey.restart()
    assert valkey.held() == []


def test_fixture_provides_a_running_empty_server(valkey: ValkeyServer) -> None:
    assert valkey.held() == []
    valkey.command("SET", "fruit", "pear")
    valkey.kill()
    with pytest.raises(ConnectionRefusedError):
        valkey.command("PING")
    valkey.kill()


def test_password_is_required(valkey: ValkeyServer) -> None:
    with socket.create_connection(("127.0.0.1", valkey.port), timeout=5) as stranger:
        stranger.sendall(b"*1\r\n$4\r\nPING\r\n")
        assert stranger.recv(100).startswith(b"-NOAUTH")


def test_close_removes_all_files_and_processes() -> None:
    server = ValkeyServer()
    server.start()
    directory = Path(server.command("CONFIG", "GET", "dir").split("\r\n")[-1])
    assert directory.is_dir()
    server.stop()
    assert refuses(server.port)
    assert directory.is_dir()
    server.close()
    server.close()
    assert not directory.exists()


def test_server_ends_with_a_killed_python_process(tmp_path: Path) -> None:
    code = """
import signal
from tests.servers.valkey import ValkeyServer
server = ValkeyServer()
server.start()
server.restart()
directory = server.command("CONFIG", "GET", "dir").split()[-1]
print(server.port, directory, flush=True)
signal.pause()
"""
    environment = {"PYTHONPATH": str(Path(__file__).parents[2])}
    with ServeProcess([sys.executable, "-c", code], environment, tmp_path) as python:
        eventually(lambda: python.output().endswith("\n"))
        port, directory = python.output().split()
        assert not refuses(int(port))
    eventually(lambda: refuses(int(port)) and not Path(directory).exists())


def test_failed_start_raises_with_the_log(valkey: ValkeyServer) -> None:
    server = ValkeyServer()
    object.__setattr__(server, "port", valkey.port)
    with pytest.raises(RuntimeError, match="Address already in use"), server:
        pass
