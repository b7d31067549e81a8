"""Trailer fields are never treated as header fields (RFC 9110, section 6.5.1)."""

from collections.abc import Iterable

import pytest

from tests.proxies.testbed.accounts import Account
from tests.proxies.testbed.backends import Backends
from tests.proxies.testbed.places import PLACES, place
from tests.proxies.testbed.proxies import Proxies
from tests.proxies.testbed.wire import Address, Answer, Connection, ask

pytestmark = pytest.mark.slow

KINDS = ("serve", "protocol")
_ALIVE = b'{"status":"ok"}'


@pytest.mark.parametrize("announced", [True, False], ids=["announced", "unannounced"])
@pytest.mark.parametrize("credential", ["cookie", "token", "jwt"])
@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize("kind", KINDS)
def test_credentials_in_trailers_are_ignored(
    kind: str, where: str, credential: str, announced: bool, backends: Backends, proxies: Proxies
) -> None:
    account = backends[kind].accounts[0]
    address = place(where, kind, backends, proxies)
    given: dict[str, str] = getattr(account, credential)
    assert ask(address, "GET", "/me/identity", headers=given).status == 200
    [(name, value)] = given.items()
    for method, spelled, apart in [
        ("GET", name, False),
        ("GET", name.upper(), True),
        ("POST", name.lower(), False),
    ]:
        trailers = [f"{spelled}: {value}"]
        answer = send(address, method, "/me/identity", trailers, announced=announced, apart=apart)
        assert answer is None or answer.status in {400, 401, 405}, (method, answer)


@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize("kind", KINDS)
def test_forwarded_headers_in_trailers_are_ignored(
    kind: str, where: str, backends: Backends, proxies: Proxies
) -> None:
    account = Account.new(backends[kind].address)
    address = place(where, kind, backends, proxies)
    body = f'{{"email": "{account.email}", "password": "wrong horse battery staple"}}'
    for trailers in (
        ["X-Forwarded-For: 203.0.113.9"],
        ["x-forwarded-for: 203.0.113.9", "X-FORWARDED-FOR: 203.0.113.10"],
        ["X-Forwarded-Proto: http"],
        ["Forwarded: for=203.0.113.9;proto=http", "User-Agent: another"],
    ):
        for announced in (True, False):
            answer = send(address, "POST", "/login", trailers, body=body, announced=announced)
            # Go refuses some names in a trailer, so Caddy does too.
            assert answer is None or answer.status in {400, 401}, answer
            assert answer is None or answer.status == 401 or where == "caddy", answer
    events = ask(address, "GET", "/me/events", headers=account.jwt).json()["items"]
    assert {event["ip"] for event in events} == {"127.0.0.1"}
    assert {event.get("user_agent") for event in events} <= {None, "test"}


@pytest.mark.parametrize(
    "trailer",
    [
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Host: another.example",
        "Origin: https://evil.example",
        "Content-Type: text/plain",
        "Expect: 100-continue",
        "X-Anything: x",
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_trailer_changes_neither_response_nor_connection(
    kind: str, trailer: str, backends: Backends
) -> None:
    address = backends[kind].address
    body = '{"email": "a@example.com", "password": "wrong horse battery staple"}'
    with Connection(address) as connection:
        for trailers in ([trailer], [trailer, trailer]):
            connection.send(chunked("POST", "/login", trailers, body=body))
            answer = connection.answer("POST")
            assert answer is not None
            assert (answer.status, answer.json()["code"]) == (401, "invalid_credentials")
        connection.send(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        alive = connection.answer()
        assert alive is not None
        assert (alive.status, alive.body) == (200, _ALIVE)


@pytest.mark.parametrize(
    "trailer",
    [
        "Content-Length: 5",
        "Transfer-Encoding: chunked",
        "Transfer-Encoding: gzip",
        "Connection: close",
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_framing_fields_in_trailers_are_ignored_or_refused(
    kind: str, trailer: str, backends: Backends
) -> None:
    body = '{"email": "a@example.com", "password": "wrong horse battery staple"}'
    with Connection(backends[kind].address) as connection:
        connection.send(chunked("POST", "/login", [trailer], body=body))
        answer = connection.answer("POST")
        assert answer is not None
        assert (answer.status, answer.json()["code"]) in {
            (400, "malformed_request"),
            (401, "invalid_credentials"),
        }
        connection.send(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        alive = connection.answer()
        assert alive is None or (answer.status, alive.status, alive.body) == (401, 200, _ALIVE)


def send(
    address: Address,
    method: str,
    path: str,
    trailers: Iterable[str],
    *,
    body: str = "",
    announced: bool = False,
    apart: bool = False,
) -> Answer | None:
    """Sends a chunked request; returns the response, or None if the connection is closed."""
    sent = chunked(method, path, trailers, body=body, announced=announced)
    end = sent.rindex(b"0\r\n") if apart else len(sent)
    with Connection(address) as connection:
        connection.send(sent[:end])
        connection.wait_until_read()
        connection.send(sent[end:])
        return connection.answer(method)


def chunked(
    method: str, path: str, trailers: Iterable[str], *, body: str = "", announced: bool = False
) -> bytes:
    """Returns a request with its body in one chunk and `trailers` after it."""
    trailers = list(trailers)
    lines = [
        f"{method} {path} HTTP/1.1",
        "Host: localhost",
        "User-Agent: test",
        "Transfer-Encoding: chunked",
        "TE: trailers",
        "Content-Type: application/json",
    ]
    if announced:
        names = ", ".join(trailer.partition(":")[0] for trailer in trailers)
        lines.append(f"Trailer: {names}")
    content = f"{len(body):x}\r\n{body}\r\n" if body else ""
    ends = "\r\n".join(["0", *trailers, "", ""])
    return ("\r\n".join([*lines, "", ""]) + content + ends).encode()
