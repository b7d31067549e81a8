"""WebSocket is the only supported upgrade (RFC 6455)."""

import pytest

from tests.web.server.wire import Wire

KEY = (
    b"Host: x\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
)
SHAKE = b"GET /ws HTTP/1.1\r\n" + KEY
TEXT = b"\x81\x85\x00\x00\x00\x00hello"


@pytest.mark.parametrize("cut", [0, 1, 40, len(SHAKE), len(SHAKE) + 1, len(SHAKE) + 2])
async def test_websocket_handshake_is_accepted(cut: int) -> None:
    wire = Wire()
    await wire.send(
        [(SHAKE + b"\r\n")[:cut], (SHAKE + b"\r\n")[cut:]] if cut else [SHAKE + b"\r\n"]
    )
    assert wire.statuses == [101]
    assert [item[:2] for item in wire.requests] == [("websocket", "/ws")]
    assert wire.transport.sent.endswith(b"\x81\x05hello")
    await wire.send([TEXT])
    assert not wire.transport.closed


@pytest.mark.parametrize(
    "connection",
    [b"upgrade", b"UPGRADE", b"keep-alive, Upgrade", b"keep-alive\r\nConnection: Upgrade"],
)
async def test_websocket_handshake_is_accepted_in_every_spelling(connection: bytes) -> None:
    head = SHAKE.replace(b"Connection: Upgrade", b"Connection: " + connection)
    wire = Wire()
    await wire.send([head.replace(b": websocket", b": WebSocket") + b"\r\n"])
    assert wire.statuses == [101]


@pytest.mark.parametrize("rest", [TEXT, b"GET /stolen HTTP/1.1\r\nHost: x\r\n\r\n"])
async def test_data_after_the_handshake_is_refused(rest: bytes) -> None:
    wire = Wire()
    await wire.send([SHAKE + b"\r\n" + rest])
    assert (wire.statuses, wire.requests) == ([400], [])


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 40", b"Transfer-Encoding: chunked", b"Content-Length: 1"]
)
@pytest.mark.parametrize("first", [True, False])
async def test_handshake_with_a_body_is_refused(framing: bytes, first: bool) -> None:
    head = b"GET /ws HTTP/1.1\r\n" + (framing + b"\r\n" + KEY if first else KEY + framing + b"\r\n")
    wire = Wire()
    await wire.send([head + b"\r\n", b"GET /stolen HTTP/1.1\r\nHost: x\r\n\r\n"])
    assert (wire.statuses, wire.requests) == ([400], [])
    assert wire.transport.half_closed


async def test_pipelined_handshake_is_refused() -> None:
    wire = Wire()
    wire.gate.clear()
    await wire.send([b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n" + SHAKE + b"\r\n"])
    assert wire.statuses == []
    wire.gate.set()
    await wire.send([TEXT])
    assert wire.statuses == [200, 400]
    assert [item[:2] for item in wire.requests] == [("GET", "/a")]
    after = Wire()
    await after.send([b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n", SHAKE + b"\r\n"])
    assert after.statuses == [200, 101]


@pytest.mark.parametrize(
    ("line", "status"), [(b"POST /ws HTTP/1.1", 200), (b"GET /ws HTTP/1.0", 200)]
)
async def test_other_upgrades_are_ignored(line: bytes, status: int) -> None:
    wire = Wire()
    head = line + b"\r\n" + KEY + b"Content-Length: 5\r\n\r\n"
    await wire.send([head, b"hello", b"GET /b HTTP/1.1\r\nHost: x\r\n\r\n"])
    assert wire.statuses[0] == status
    method = line.split()[0].decode()
    assert wire.requests[0] == (method, "/ws", b"hello")
    assert len(wire.requests) == (1 if line.endswith(b"1.0") else 2)


async def test_without_a_websocket_library_the_upgrade_is_ignored() -> None:
    wire = Wire(ws="none")
    await wire.send([SHAKE + b"Content-Length: 5\r\n\r\n", b"hello" + b"GET /b HTTP/1.1\r\n\r\n"])
    assert wire.requests == [("GET", "/ws", b"hello"), ("GET", "/b", b"")]


@pytest.mark.parametrize(
    ("old", "new", "status"),
    [
        (b"Version: 13", b"Version: <script>alert(1)</script>", 400),
        (b"Version: 13", b"Version: 8", 400),
        (b"Version: 13", b"Version: 13\r\nSec-WebSocket-Version: 13", 400),
        (b"dGhlIHNhbXBsZSBub25jZQ==", b"<b>secret</b>", 400),
        (b"dGhlIHNhbXBsZSBub25jZQ==", b"c2hvcnQ=", 400),
        (b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", b"", 400),
        (b"Host: x", b"Host: x\r\nSec-WebSocket-Extensions: <<", 400),
        (b"Host: x", b"Host: x\r\nSec-WebSocket-Protocol: <<, a", 400),
        (b"Host: x", b"Host: x\r\nConnection: <<", 400),
        (b"Host: x", b"Host: x\r\nOrigin: a\r\nOrigin: b", 400),
        (b"Host: x\r\n", b"", 400),
        (b"Host: x", b"Host: x\r\n" + b"a: b\r\n" * 130 + b"c: d", 431),
        (b"Host: x", b"Host: x\r\na: " + b"b" * 9000, 431),
        (b"GET /ws", b"GET /ws?" + b"q" * 9000, 414),
    ],
)
async def test_malformed_handshake_is_refused_without_repeating_it(
    old: bytes, new: bytes, status: int
) -> None:
    wire = Wire()
    await wire.send([(SHAKE + b"\r\n").replace(old, new)])
    assert (wire.statuses, wire.requests) == ([status], [])
    assert b"application/problem+json" in wire.transport.sent
    assert b"no-store" in wire.transport.sent
    # RFC 6455, section 4.4.
    assert (b"sec-websocket-version: 13\r\n" in wire.transport.sent) is (b"Version" in new)
    for sent_text in (b"<script>", b"<b>", b"<<"):
        assert sent_text not in wire.transport.sent
    assert wire.transport.half_closed


@pytest.mark.parametrize(
    "more",
    [
        b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n",
        b'Sec-WebSocket-Extensions: a; b="c"; d=1, e\r\n',
        b"Sec-WebSocket-Protocol: chat, superchat\r\n",
        b"Origin: http://x\r\n",
        b"a: b\r\n" * 110,
        b"Cookie: " + b"c" * 7000 + b"\r\n",
    ],
)
async def test_offered_extensions_and_protocols_are_accepted(more: bytes) -> None:
    wire = Wire()
    await wire.send([SHAKE + more + b"\r\n"])
    assert wire.statuses == [101]
