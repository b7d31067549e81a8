"""benchmarks/batches.py: the ratio of two servers whose batches take turns."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest

from benchmarks import batches
from benchmarks.bench import Running
from benchmarks.stack import WrongAnswer


@contextmanager
def server(answer: bytes) -> Iterator[Running]:
    """Answers each connection once, in a thread, and closes it."""

    def serve() -> None:
        while True:
            connection, _ = listener.accept()
            with connection:
                if not connection.recv(65536):
                    return
                connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        port = listener.getsockname()[1]
        try:
            yield cast(Any, SimpleNamespace(stack=SimpleNamespace(port=port), pid=1))
        finally:
            socket.create_connection(("127.0.0.1", port)).close()
            thread.join()


def test_a_slow_turn_changes_no_ratio_by_turns() -> None:
    assert batches.ratio([60.0, 600.0, 66.0], [80.0, 800.0, 88.0]) == pytest.approx(0.75)


def test_a_batch_in_which_one_server_was_interrupted_does_not_count() -> None:
    assert batches.ratio([60, 60, 60], [80, 800, 80]) == pytest.approx(0.75)


def test_a_request_has_its_headers() -> None:
    load = batches.Load(cast(Any, None), "/guarded", b"", {"Cookie": "authapi=secret"})
    assert load.wire == (
        b"GET /guarded HTTP/1.1\r\nhost: shop.example\r\nCookie: authapi=secret\r\n\r\n"
    )


@pytest.mark.parametrize(
    "answer",
    [b"HTTP/1.1 401 Unauthorized\r\n\r\nyes", b"HTTP/1.1 200 OK\r\n\r\nno", b"HTTP/1.1 200 OK\r\n"],
)
def test_a_wrong_answer_has_no_figure(answer: bytes) -> None:
    with server(answer) as running:
        load = batches.Load(running, "/", b"yes")
        with pytest.raises(WrongAnswer):
            batches._send(load, 1)
