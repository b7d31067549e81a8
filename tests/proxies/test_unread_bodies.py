"""Refusals that leave a body unread: the client gets the answer, and the connection ends."""

import pytest

from tests.proxies.bed.backends import Backends
from tests.proxies.bed.fronts import Fronts
from tests.proxies.bed.places import PLACES, place
from tests.proxies.bed.wire import Connection, ask

pytestmark = pytest.mark.slow

TOO_LONG = 99_999_999
CASES = {
    "too long": ("POST", "/login", "application/json", TOO_LONG, 413),
    "unknown caller": ("POST", "/logout", "application/json", 5000, 401),
    "unknown caller, too long": ("PATCH", "/me", "application/json", TOO_LONG, {401, 413}),
    "not JSON": ("POST", "/login", "text/plain", 5000, 415),
    "not a form": ("POST", "/token", "application/json", 5000, 415),
}


@pytest.mark.parametrize("sent", [0, 100_000])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("kind", ["serve", "imported", "protocol"])
def test_the_client_gets_the_answer_and_the_connection_ends(
    kind: str, case: str, sent: int, backends: Backends
) -> None:
    backend = backends[kind]
    backend.seen()
    method, path, content_type, length, expected = CASES[case]
    sent = min(sent, length - 1)  # the last byte never comes
    with Connection(backend.address) as connection:
        connection.send(head(method, path, content_type, length) + b"x" * sent)
        answer = connection.answer(method)
        assert answer is not None, "closed without an answer"
        assert answer.status in (expected if isinstance(expected, set) else {expected})
        assert answer.closes
        assert connection.is_closed()
    # The rest is not read as a request.
    assert len(backend.seen()) <= 1


@pytest.mark.parametrize("where", PLACES[1:])
@pytest.mark.parametrize("kind", ["serve", "protocol"])
def test_the_client_of_a_proxy_gets_the_answer(
    kind: str, where: str, backends: Backends, fronts: Fronts
) -> None:
    address = place(where, kind, backends, fronts)
    # Above the limit of the service, and no more beyond it than it takes without reading.
    for length in (70_000, 100_000):
        with Connection(address) as connection:
            connection.send(head("POST", "/login", "application/json", length) + b"x" * length)
            answer = connection.answer("POST")
        assert answer is not None, "closed without an answer"
        assert (answer.status, answer.json()["code"]) == (413, "body_too_large")


@pytest.mark.parametrize("where", PLACES[1:])
@pytest.mark.parametrize("kind", ["serve", "imported"])
def test_spoiled_requests_take_no_process_out_of_a_proxy(
    kind: str, where: str, backends: Backends, fronts: Fronts
) -> None:
    address = place(where, kind, backends, fronts)
    for _ in range(10):
        with Connection(address) as connection:
            # The service answers and closes; the proxy may see no more than a broken connection.
            connection.send(head("POST", "/login", "application/json", 500_000) + b"x" * 500_000)
            connection.answer("POST")
        assert ask(address, "GET", "/health/live").status == 200


def head(method: str, path: str, content_type: str, length: int) -> bytes:
    lines = [
        f"{method} {path} HTTP/1.1",
        "Host: localhost",
        f"Content-Type: {content_type}",
        f"Content-Length: {length}",
    ]
    return "\r\n".join([*lines, "", ""]).encode()
