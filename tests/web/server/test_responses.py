"""`ResponseCycle` sends what uvicorn sends, and raises what it raises."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

import pytest
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from authapi.web.server import responses
from authapi.web.server.responses import ResponseCycle
from tests.web.server.wire import Memory

DATE = (b"date", b"Mon, 30 Nov 2026 17:00:00 GMT")
JSON = (b"content-type", b"application/json")
LENGTH = (b"content-length", b"2")
START = "http.response.start"
BODY = "http.response.body"


def start(*fields: Any, status: int = 200) -> dict[str, Any]:
    return {"type": START, "status": status, "headers": fields}


def body(content: bytes = b"{}", *, more: bool = False) -> dict[str, Any]:
    return {"type": BODY, "body": content, "more_body": more}


CASES: dict[str, Sequence[dict[str, Any]]] = {
    "usual": [start(JSON, LENGTH), body()],
    "without fields": [{"type": START, "status": 200}, body()],
    "without a length": [start(JSON), body(b"{", more=True), body(b"}")],
    "chunked": [start((b"Transfer-Encoding", b"chunked")), body(more=True), body(b"")],
    "in parts": [start(LENGTH), body(b"{", more=True), body(b"", more=True), body(b"}")],
    "defaults of a body": [start((b"content-length", b"0")), {"type": BODY}],
    "no content": [start(status=204), body(b"")],
    "not modified": [start((b"etag", b'"a"'), status=304), body(b"")],
    "status without a phrase": [start(LENGTH, status=299), body()],
    "upper case": [start((b"Content-Type", b"Text/Plain"), (b"Content-Length", b"2")), body()],
    "cookies": [start(LENGTH, (b"set-cookie", b"a=b"), (b"set-cookie", b"c=d")), body()],
    "close": [start(LENGTH, (b"connection", b"close")), body()],
    "keep-alive": [start(LENGTH, (b"Connection", b"keep-alive, x")), body()],
    "two lengths": [start(LENGTH, LENGTH), body()],
    "other length": [start((b"content-length", b"+2")), body()],
    "no number": [start((b"content-length", b"two")), body()],
    "too short": [start(LENGTH), body(b"{")],
    "too long": [start(LENGTH), body(b"{}}")],
    "lists": [start([*JSON], [*LENGTH]), body()],
    "name with a blank": [start(LENGTH, (b"a b", b"c")), body()],
    "name with a line": [start(LENGTH, (b"a\r\nb", b"c")), body()],
    "value with a line": [start(LENGTH, (b"vary", b"a\r\nb: c")), body()],
    "value with a null": [start(LENGTH, (b"vary", b"\0")), body()],
    "body first": [body()],
    "two starts": [start(LENGTH), start(LENGTH)],
    "after the end": [start(LENGTH), body(), body()],
    "unknown message": [start(LENGTH), {"type": "http.response.trailers"}],
    "unknown status": [start(LENGTH, status=700), body()],
}


class Writable(Memory):
    """A connection that records everything that is written, also after its close."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.sent += data

    def close(self) -> None:
        self.is_closed.set()


async def sent(
    kind: type[RequestResponseCycle],
    messages: Sequence[dict[str, Any]],
    method: str,
    **changes: Any,
) -> object:
    """Returns the bytes, the end of the connection, the state of the cycle, and the error."""
    transport, ended, error = Writable(), list[bool](), ""
    options: dict[str, Any] = {
        "scope": {"type": "http", "method": method},
        "transport": transport,
        "flow": FlowControl(transport),
        "logger": logging.getLogger("test"),
        "access_logger": logging.getLogger("test"),
        "access_log": False,
        "default_headers": [DATE],
        "message_event": asyncio.Event(),
        "expect_100_continue": False,
        "keep_alive": True,
        "on_response": lambda: ended.append(True),
    }
    cycle: Any = kind(**options | changes)
    try:
        for message in messages:
            await cycle.send({**message, "headers": list(message.get("headers", ()))})
    except Exception as raised:
        error = repr(raised)
    state = (cycle.response_started, cycle.response_complete, cycle.keep_alive)
    return bytes(transport.sent), transport.closed, ended, state, error


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("changes", [{}, {"keep_alive": False}, {"default_headers": []}], ids=str)
@pytest.mark.parametrize("case", CASES)
async def test_bytes_and_errors_are_those_of_uvicorn(
    case: str, changes: dict[str, Any], method: str
) -> None:
    expected = await sent(RequestResponseCycle, CASES[case], method, **changes)
    for _ in range(2):  # also with lines that are kept
        assert await sent(ResponseCycle, CASES[case], method, **changes) == expected


async def test_only_fields_with_few_values_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(responses, "_kept", kept := dict[tuple[bytes, bytes], bytes]())
    monkeypatch.setattr(responses, "_latest_date", dates := dict[tuple[bytes, bytes], bytes]())
    secrets = [(b"set-cookie", b"a=b"), (b"x-request-id", b"1"), (b"location", b"/?token=x")]
    long = (b"vary", b"x" * 600)
    await sent(ResponseCycle, [start(JSON, LENGTH, long, *secrets), body()], "GET")
    assert kept == {JSON: b"content-type: application/json\r\n"}
    later = (b"date", b"Mon, 30 Nov 2026 17:00:01 GMT")
    await sent(ResponseCycle, CASES["usual"], "GET", default_headers=[later])
    assert dates == {later: b"date: Mon, 30 Nov 2026 17:00:01 GMT\r\n"}
    for number in range(300):
        await sent(ResponseCycle, [start(LENGTH, (b"vary", b"%d" % number)), body()], "GET")
    assert len(kept) == 256
