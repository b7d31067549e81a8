"""Limits of header sections, trailers and framing while they are read: bytes, fields, time."""

import asyncio
import json
import tracemalloc
from collections.abc import Iterator

import pytest

from authapi import HTTPProtocol
from authapi.errors import Refusal
from authapi.web.server.limits import (
    LIMITS_KEY,
    MAX_FIELDS,
    ReadingLimits,
    RefusedClient,
    default_limits,
)
from tests.web.server.wire import Wire, settled

LIMIT = 32768
PACKET = 65536
HUGE = 48_000_000

GET = b"GET /a HTTP/1.1\r\nHost: x\r\n"
CHUNKED = b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"

ENDLESS = {
    # The first bytes, the bytes repeated until the connection closes, and the status.
    "value": (GET + b"X-A: ", b"a", 431),
    "name": (GET, b"a", 431),
    "white space before a value": (GET + b"X-A:", b" ", 431),
    "short fields": (GET, b"a:b\r\n", 431),
    "empty fields": (GET, b"a:\r\n", 431),
    "target": (b"GET /", b"a", 414),
    "query": (b"GET /?", b"a=b&", 414),
    "spaces before the target": (b"GET ", b" ", 431),
    "empty lines": (b"", b"\r\n", 400),
    "method": (b"", b"G", 400),
    "trailer value": (CHUNKED + b"0\r\nX-A: ", b"a", 431),
    "trailer name": (CHUNKED + b"0\r\n", b"a", 431),
    "trailers": (CHUNKED + b"0\r\n", b"a:b\r\n", 431),
    "trailers after a body": (CHUNKED + b"3\r\nabc\r\n0\r\n", b"a:b\r\n", 431),
    "chunk extension": (CHUNKED + b"1;", b"a", 431),
    "chunk extensions": (CHUNKED, b"1;" + b"a" * 4000 + b"\r\nx\r\n", 431),
    "digits of a chunk size": (CHUNKED, b"0", 431),
    "second request": (GET + b"\r\n" + GET + b"X-A: ", b"a", 431),
}


def endless(first: bytes, repeated: bytes, total: int) -> Iterator[bytes]:
    packet = repeated * (PACKET // len(repeated) + 1)
    yield first
    for _ in range(total // len(packet)):
        yield packet


@pytest.mark.parametrize("name", ENDLESS)
async def test_endless_input_is_refused_at_the_limit(name: str) -> None:
    first, repeated, status = ENDLESS[name]
    wire = Wire()
    fed = 0
    for packet in endless(first, repeated, HUGE):
        if not wire.feed(packet):
            break
        fed += len(packet)
        await settled()
        if wire.statuses and wire.statuses[-1] >= 400:
            break
    assert wire.statuses[-1] == status, wire.statuses
    # One packet may exceed the limit, but no further packet is read.
    assert fed <= len(first) + LIMIT + 2 * PACKET
    assert wire.transport.half_closed
    assert not wire.transport.closed
    for _ in range(3):  # at most 64 KiB more are read
        wire.feed(b"x" * 32768)
    assert wire.transport.closed


@pytest.mark.parametrize("name", ENDLESS)
async def test_memory_use_is_constant(name: str) -> None:
    first, repeated, _ = ENDLESS[name]
    packets = endless(first, repeated, HUGE)
    wires = [Wire() for _ in range(4)]
    wires.pop().feed(GET + b"\r\n")  # allocations that happen once
    await settled()
    wire = wires.pop()
    wire.feed(next(packets))
    packet = next(packets)
    tracemalloc.start()
    for _ in range(HUGE // len(packet)):
        wire.feed(packet)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2_000_000


async def test_limits_are_exact_for_single_bytes() -> None:
    for size, status in ((LIMIT, []), (LIMIT + 100, [431])):
        wire = Wire()
        wire.feed(GET + b"X: ")
        for _ in range(size - len("HostxX")):
            wire.feed(b"a")
        assert wire.statuses == status
    for size, status in ((LIMIT, []), (LIMIT + 1, [414])):
        wire = Wire()
        wire.feed(b"GET /")
        for _ in range(size - 1):
            wire.feed(b"a")
        assert wire.statuses == status


async def test_target_and_field_limits_of_a_complete_header_section() -> None:
    for size, status in ((LIMIT, 200), (LIMIT + 1, 414)):
        wire = Wire()
        await wire.send([b"GET /" + b"a" * (size - 1) + b" HTTP/1.1\r\nHost: x\r\n\r\n"])
        assert wire.statuses == [status]
    for number, status in ((MAX_FIELDS, 200), (MAX_FIELDS + 1, 431)):
        wire = Wire()
        await wire.send([b"GET /a HTTP/1.1\r\n" + b"a:\r\n" * number + b"\r\n"])
        assert wire.statuses == [status]


async def test_body_in_small_chunks_is_accepted() -> None:
    wire = Wire()
    await wire.send([CHUNKED, *([b"1\r\nx\r\n" * 1000] * 60), b"0\r\nX-T: 1\r\n\r\n"])
    assert wire.statuses == [200]
    assert wire.requests == [("POST", "/a", b"x" * 60_000)]


async def test_large_body_is_read() -> None:
    wire = Wire()
    await wire.send([b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"])
    await wire.send([b"b" * 250_000] * 4)
    assert wire.statuses == [200]
    assert wire.requests == [("POST", "/a", b"b" * 1_000_000)]


async def test_body_after_the_response_is_discarded_up_to_a_limit() -> None:
    head = b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
    wire = Wire(reads_body=False)
    await wire.send([head % 60_000, b"x" * 30_000, b"x" * 30_000, GET + b"\r\n"])
    assert wire.statuses == [200, 200]
    wire = Wire(reads_body=False)
    await wire.send([head % 1_000_000, b"x" * 60_000, b"x" * 60_000])
    assert wire.statuses == [200]
    assert wire.transport.closed


@pytest.mark.parametrize(("size", "cut"), [(1500, None), (3000, None), (1500, 40), (1500, 700)])
async def test_limits_apply_to_each_request_of_a_connection(size: int, cut: int | None) -> None:
    head = GET + b"X-A: " + b"a" * size + b"\r\n\r\n"
    wire = Wire()
    for _ in range(100):
        await wire.send([head] if cut is None else [head[:cut], head[cut:]])
    assert wire.statuses == [200] * 100


async def test_number_of_parsed_pipelined_requests_is_limited() -> None:
    number = 3000
    requests = b"GET / HTTP/1.1\r\nHost:\r\n\r\n" * number
    wire = Wire(reads_body=False)
    wire.gate.clear()
    for at in range(0, len(requests), PACKET):
        wire.feed(requests[at : at + PACKET])
        assert wire.transport.paused
    await settled()
    assert isinstance(wire.transport.protocol, HTTPProtocol)
    assert len(wire.transport.protocol.pipeline) < 100
    wire.gate.set()
    for _ in range(number):
        await settled()
        if len(wire.seen) == number:
            break
    await settled()
    assert wire.statuses == [200] * number
    assert not wire.transport.paused


async def test_pipelined_bodies_and_refusals_keep_their_order() -> None:
    post = b"POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 2000\r\n\r\n" + b"b" * 2000
    wire = Wire()
    await wire.send([post * 20 + b"nonsense\r\n\r\n" + post])
    for _ in range(30):
        await settled()
    assert wire.statuses == [200] * 20 + [400]
    assert {item.body for item in wire.seen} == {b"b" * 2000}


# Time


def patient(seconds: float) -> dict[str, object]:
    limits = default_limits()
    return {LIMITS_KEY: ReadingLimits(LIMIT, seconds, limits.answer)}


@pytest.mark.parametrize("sent", [b"GET", GET, GET + b"X-A: a", b"GET /a"])
async def test_header_section_has_a_timeout(sent: bytes) -> None:
    wire = Wire(state=patient(0.01))
    wire.feed(sent)
    await asyncio.wait_for(wire.transport.is_half_closed.wait(), 10)
    assert wire.statuses == [408]


@pytest.mark.parametrize("sent", [b"", b"\r\n"])
async def test_idle_connection_is_closed_without_a_response(sent: bytes) -> None:
    wire = Wire(state=patient(0.01))
    wire.feed(sent)
    await asyncio.wait_for(wire.transport.is_closed.wait(), 10)
    assert wire.statuses == []


async def test_pipelined_header_section_does_not_time_out_before_the_response() -> None:
    wire = Wire(state=patient(0.01))
    wire.gate.clear()
    await wire.send([GET + b"\r\n" + b"GET /b"])
    await asyncio.sleep(0.1)
    assert wire.statuses == []
    wire.gate.set()
    await wire.send([b" HTTP/1.1\r\nHost: x\r\n\r\n"])
    assert wire.statuses == [200, 200]


@pytest.mark.parametrize("framing", [b"Content-Length: 500", b"Transfer-Encoding: chunked"])
@pytest.mark.parametrize("begun", [b"", b"1\r\n{"])
async def test_stalled_body_times_out(framing: bytes, begun: bytes) -> None:
    wire = Wire(state=patient(0.02))
    await wire.send([b"POST /a HTTP/1.1\r\nHost: x\r\n" + framing + b"\r\n\r\n"])
    if begun:
        await wire.send([begun])
    await asyncio.wait_for(wire.transport.is_half_closed.wait(), 10)
    assert wire.statuses == [408]


async def test_slow_response_does_not_time_out() -> None:
    wire = Wire(state=patient(0.01))
    wire.gate.clear()
    await wire.send([b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n", b"{}"])
    await asyncio.sleep(0.1)
    assert wire.statuses == []
    wire.gate.set()
    await settled()
    assert wire.statuses == [200]


async def test_client_that_keeps_the_connection_open_is_disconnected() -> None:
    wire = Wire()
    wire.feed(b"nonsense\r\n\r\n")
    assert wire.transport.half_closed
    await asyncio.wait_for(wire.transport.is_closed.wait(), 10)  # after a second


# Responses


async def test_response_to_a_refused_request_comes_from_the_application() -> None:
    seen: list[tuple[Refusal, RefusedClient]] = []
    plain = default_limits()

    def answer(refusal: Refusal, client: RefusedClient) -> object:
        seen.append((refusal, client))
        return plain.answer(refusal, client)

    wire = Wire(state={LIMITS_KEY: ReadingLimits(100, 1.0, answer)})  # type: ignore[arg-type]
    await wire.send([GET + b"X-A: " + b"a" * 200])
    assert wire.statuses == [431]
    assert [(refusal.code, client.ip) for refusal, client in seen] == [
        ("headers_too_large", "192.0.2.7")
    ]


async def test_refusal_is_a_problem_document_without_client_input() -> None:
    wire = Wire()
    await wire.send([GET + b"Authorization: secret\r\nBad header\r\n\r\n"])
    head, _, body = bytes(wire.transport.sent).partition(b"\r\n\r\n")
    assert b"\r\nconnection: close" in head
    assert b"\r\ncontent-type: application/problem+json" in head
    document = json.loads(body)
    assert (document["code"], document["status"]) == ("malformed_request", 400)
    assert len(document["request_id"]) == 32
    assert b"secret" not in wire.transport.sent


@pytest.mark.parametrize(
    "sent",
    [
        b"HEAD /a HTTP/1.1\r\nX-A: " + b"a" * 40_000,
        b"HEAD public HTTP/1.1\r\n\r\n",
        b"HEAD x:80 HTTP/1.1\r\n\r\n",
        b"HEAD /\xc3\xa9 HTTP/1.1\r\n\r\n",
        b"HEAD /a HTTP/2.0\r\n\r\n",
    ],
)
async def test_refusal_of_head_has_no_body(sent: bytes) -> None:
    wire = Wire()
    await wire.send([sent])
    assert wire.statuses[0] >= 400
    assert bytes(wire.transport.sent).endswith(b"\r\n\r\n")


@pytest.mark.parametrize("version", [b"0.9", b"1.2", b"2.0", b"9.9"])
async def test_unsupported_versions_are_505(version: bytes) -> None:
    wire = Wire()
    await wire.send([b"GET /a HTTP/" + version + b"\r\nHost: x\r\n\r\n"])
    assert wire.statuses == [505]


async def test_connection_close_occurs_once() -> None:
    wire = Wire(state=patient(0.01))
    wire.feed(GET)
    await asyncio.wait_for(wire.transport.is_half_closed.wait(), 10)
    assert bytes(wire.transport.sent).lower().count(b"connection: close") == 1


async def test_discarded_bytes_are_counted_for_each_request() -> None:
    wire = Wire(reads_body=False)
    for _ in range(5):
        await wire.send([b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 40000\r\n\r\n"])
        await wire.send([b"x" * 40_000])
    assert wire.statuses == [200] * 5
    assert not wire.transport.closed


async def test_an_application_can_have_more_of_a_body_discarded() -> None:
    wire = Wire(reads_body=False, discarded=200_000)
    head = b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"
    await wire.send([head, b"x" * 150_000])
    assert (wire.statuses, wire.transport.closed) == ([200], False)
    await wire.send([b"x" * 60_000])
    assert wire.transport.closed
