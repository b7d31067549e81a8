"""Each request is parsed once, with any framing of its body and any split into packets."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.web.server.wire import Wire

INNER = (
    b"DELETE /me HTTP/1.1\r\nHost: x\r\nCookie: authapi=victim\r\n\r\n",
    b"DELETE /me HTTP/1.1\r\nX: ",
    b"GET /stolen HTTP/1.1\r\n\r\n",
    b"0\r\n\r\n",
    b"\r\n\r\n",
    b"x",
    b"",
)
TOKENS = (None, b"h2c", b"foo", b"TLS/1.0", b"", b"websocket, foo", b"websocket", b"WebSocket")
CONNECTIONS = (b"Upgrade", b"upgrade", b"keep-alive, Upgrade", b"UPGRADE,HTTP2-Settings", b"close")
METHODS = ("POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD", "GET", "TRACE", "PROPFIND")


@dataclass(frozen=True)
class Sent:
    """A request of a client."""

    method: str
    path: str
    body: bytes
    token: bytes | None
    connection: bytes
    chunks: int
    """The number of chunks; 0 for a body with Content-Length."""
    expects: bool
    version: str
    upgrade_last: bool

    def raw(self) -> bytes:
        """The bytes of the request."""
        upgrade = [b"Connection: " + self.connection]
        if self.token is not None:
            upgrade.append(b"Upgrade: " + self.token)
        framing = [b"Expect: 100-continue"] if self.expects else []
        if self.chunks:
            framing.append(b"Transfer-Encoding: chunked")
        elif self.body:
            framing.append(b"Content-Length: %d" % len(self.body))
        fields = [*framing, *upgrade] if self.upgrade_last else [*upgrade, *framing]
        line = f"{self.method} {self.path} HTTP/{self.version}".encode()
        return b"\r\n".join([line, b"Host: x", *fields, b"", self._body()])

    def _body(self) -> bytes:
        if not self.chunks:
            return self.body
        size = max(1, -(-len(self.body) // self.chunks))
        parts = [self.body[at : at + size] for at in range(0, len(self.body), size)]
        frames = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
        return frames + b"0\r\nCookie: authapi=trailer\r\nUpgrade: foo\r\nX-T: 1\r\n\r\n"

    @property
    def is_websocket(self) -> bool:
        """Whether it is a valid WebSocket handshake."""
        return (
            (self.token or b"").lower() == b"websocket"
            and b"upgrade" in self.connection.lower()
            and self.method == "GET"
            and self.version == "1.1"
        )

    @property
    def ends(self) -> bool:
        """Whether the connection ends after the response."""
        return self.version == "1.0" or self.connection == b"close"

    @property
    def is_refused(self) -> bool:
        """Whether it is refused as ambiguous."""
        return self.version == "1.0" and self.chunks > 0


sent = st.builds(
    Sent,
    method=st.sampled_from(METHODS),
    path=st.sampled_from(["/a", "/b?c=d"]),
    body=st.lists(st.sampled_from(INNER), max_size=3).map(b"".join),
    token=st.sampled_from(TOKENS),
    connection=st.sampled_from(CONNECTIONS),
    chunks=st.integers(0, 3),
    expects=st.booleans(),
    version=st.sampled_from(["1.1", "1.1", "1.1", "1.0"]),
    upgrade_last=st.booleans(),
).filter(lambda item: not item.is_websocket)


def packets(data: bytes, cuts: Sequence[float]) -> list[bytes]:
    """Splits `data` at these fractions of its length."""
    places = sorted({0, len(data), *(int(cut * len(data)) for cut in cuts)})
    return [data[a:b] for a, b in pairwise(places)]


def expected(requests: Sequence[Sent]) -> list[tuple[str, str, bytes]]:
    found = []
    for request in requests:
        if request.is_refused:
            break
        found.append((request.method, request.path.partition("?")[0], request.body))
        if request.ends:
            break
    return found


@given(
    requests=st.lists(sent, min_size=1, max_size=4),
    cuts=st.lists(st.floats(0, 1), max_size=6),
    at_once=st.booleans(),
)
def test_each_request_is_parsed_once_with_its_own_body(
    requests: list[Sent], cuts: list[float], at_once: bool
) -> None:
    data = b"".join(request.raw() for request in requests)

    async def run() -> None:
        wire = Wire()
        if at_once:  # all packets before the application runs
            for packet in packets(data, cuts):
                wire.feed(packet)
        await wire.send(packets(data, cuts) if not at_once else [b""])
        wanted = expected(requests)
        assert wire.requests == wanted
        assert all(item.ended for item in wire.seen)
        for item in wire.seen:
            names = {name for name, _ in item.headers}
            assert not names & {b"cookie", b"x-t"}
            assert sum(name == b"upgrade" for name in names) <= 1
        refused = len(wanted) < len(requests) and requests[len(wanted)].is_refused
        ended = bool(wanted) and requests[len(wanted) - 1].ends
        assert [status for status in wire.statuses if status != 100] == (
            [200] * len(wanted) + [400] * (refused and not ended)
        )

    asyncio.run(run())


@given(body=st.sampled_from(INNER), chunks=st.integers(0, 2), cut=st.integers(0, 400))
def test_request_split_at_every_byte(body: bytes, chunks: int, cut: int) -> None:
    request = Sent("POST", "/a", body, b"h2c", b"Upgrade", chunks, False, "1.1", False)
    follower = Sent("GET", "/b", b"", None, b"keep-alive", 0, False, "1.1", False)
    data = request.raw() + follower.raw()

    async def run() -> None:
        wire = Wire()
        await wire.send([data[:cut], data[cut:]])
        assert wire.requests == [("POST", "/a", body), ("GET", "/b", b"")]
        assert wire.statuses == [200, 200]

    asyncio.run(run())


@pytest.mark.parametrize("reads_body", [True, False])
@pytest.mark.parametrize("pause", [True, False])
async def test_smuggling_attack_of_the_report_fails(reads_body: bool, pause: bool) -> None:
    head = (
        b"POST /logout HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: foo\r\n"
        b"Content-Length: 6050\r\n\r\n"
    )
    rest = b"DELETE /me HTTP/1.1\r\nX: "
    wire = Wire(reads_body=reads_body)
    parts = [head + b"a" * 6000, rest] if pause else [head + b"a" * 6000 + rest]
    await wire.send([*parts, b"GET /me HTTP/1.1\r\nHost: x\r\nCookie: authapi=victim\r\n\r\n"])
    # The first 50 bytes of the victim's request complete the body of the attacker's.
    assert [item[:2] for item in wire.requests] == [("POST", "/logout")]


@pytest.mark.parametrize("method", ["CONNECT"])
@pytest.mark.parametrize("target", [b"/me", b"x:80"])
async def test_connect_is_refused_and_closes(method: str, target: bytes) -> None:
    wire = Wire()
    head = method.encode() + b" " + target + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 30\r\n\r\n"
    await wire.send([head, b"GET /stolen HTTP/1.1\r\nHost: x\r\n\r\n"])
    assert (wire.requests, wire.statuses) == ([], [400])
    assert wire.transport.half_closed


@pytest.mark.parametrize("line", [b"GET /a HTTP/0.9", b"GET /a HTTP/2.0", b"GET /a"])
async def test_other_versions_are_refused(line: bytes) -> None:
    wire = Wire()
    await wire.send([line + b"\r\nHost: x\r\n\r\n"])
    assert (wire.requests, wire.statuses) == ([], [505])


async def test_refusals_wait_for_earlier_responses() -> None:
    wire = Wire()
    wire.gate.clear()
    first = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\nGET /b HTTP/1.1\r\nHost: x\r\n\r\n"
    await wire.send([first + b"nonsense\r\n\r\n", b"GET /c HTTP/1.1\r\nHost: x\r\n\r\n"])
    assert wire.statuses == []
    wire.gate.set()
    await wire.send([b"more"])
    assert [item[1] for item in wire.requests] == ["/a", "/b"]
    assert wire.statuses == [200, 200, 400]


async def test_malformed_body_is_refused_after_earlier_responses() -> None:
    chunked = b"POST /b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    wire = Wire()
    wire.gate.clear()
    await wire.send([b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n" + chunked + b"5\r\nabcdeNONSENSE"])
    assert wire.statuses == []
    wire.gate.set()
    await wire.send([b"more"])
    assert wire.statuses == [200, 400]
    alone = Wire()
    await alone.send([chunked, b"5\r\nabcde", b"NONSENSE"])
    assert alone.statuses == [400]
    assert (alone.seen[0].body, alone.seen[0].ended) == (b"abcde", False)
    early = Wire(reads_body=False)
    await early.send([chunked, b"5\r\nabcde", b"NONSENSE"])
    assert early.statuses == [200]  # its response is complete; the connection closes
    assert early.transport.half_closed


@pytest.mark.parametrize("is_read", [True, False])
@pytest.mark.parametrize("cut", [False, True])
async def test_connection_close_in_a_trailer_closes_the_connection(
    is_read: bool, cut: bool
) -> None:
    """llhttp ignores all further data, so the next request would never get a response."""
    head = b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
    trailer = b"Connection: close\r\n\r\n"
    wire = Wire(reads_body=is_read)
    await wire.send([head, trailer] if cut else [head + trailer])
    await wire.send([b"GET /b HTTP/1.1\r\nHost: x\r\n\r\n"])
    assert wire.requests == [("POST", "/a", b"")]
    assert wire.statuses == [200]
    assert wire.transport.closed
