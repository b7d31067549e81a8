"""Refusals with an unread body: the client gets the response, and the connection closes."""

import pytest

from tests.proxies.testbed.backends import Backends
from tests.proxies.testbed.places import PLACES, place
from tests.proxies.testbed.proxies import Proxies
from tests.proxies.testbed.wire import Connection, ask

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
def test_client_gets_the_response_and_the_connection_closes(
    kind: str, case: str, sent: int, backends: Backends
) -> None:
    backend = backends[kind]
    backend.seen()
    method, path, content_type, length, expected = CASES[case]
    sent = min(sent, length - 1)  # the last byte is never sent
    with Connection(backend.address) as connection:
        connection.send(head(method, path, content_type, length) + b"x" * sent)
        answer = connection.answer(method)
        assert answer is not None, "closed without an answer"
        assert answer.status in (expected if isinstance(expected, set) else {expected})
        assert answer.closes
        assert connection.is_closed()
    # The rest is not parsed as a request.
    assert len(backend.seen()) <= 1


@pytest.mark.parametrize("where", PLACES[1:])
@pytest.mark.parametrize("kind", ["serve", "protocol"])
def test_client_of_a_proxy_gets_the_response(
    kind: str, where: str, backends: Backends, proxies: Proxies
) -> None:
    address = place(where, kind, backends, proxies)
    # Above the limit of the service, but within the bytes that it discards.
    for length in (70_000, 100_000):
        with Connection(address) as connection:
            connection.send(head("POST", "/login", "application/json", length) + b"x" * length)
            answer = connection.answer("POST")
        assert answer is not None, "closed without an answer"
        assert (answer.status, answer.json()["code"]) == (413, "body_too_large")


@pytest.mark.parametrize("where", PLACES[1:])
@pytest.mark.parametrize("kind", ["serve", "imported"])
def test_refused_requests_do_not_mark_a_backend_as_down(
    kind: str, where: str, backends: Backends, proxies: Proxies
) -> None:
    address = place(where, kind, backends, proxies)
    for _ in range(10):
        with Connection(address) as connection:
            # The service answers and closes. The proxy may only see a reset connection.
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
