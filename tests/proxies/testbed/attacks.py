"""Requests with `Upgrade` whose body contains another request (RFC 9110, section 7.8).

A server that stops parsing HTTP after the header section, but does not upgrade, parses the body as
the next request: request smuggling (CWE-444).
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

from tests.pairwise import ALL, Dimensions, pairs, product
from tests.proxies.testbed.applications import ORIGIN

STOLEN = "stolen="
"""Part of the target of each request inside a body."""
_FILLER = b"a" * 6000

DIMENSIONS: Dimensions = {
    "method": (
        *("GET", "HEAD", "POST", "PUT", "PATCH"),
        *("DELETE", "OPTIONS", "TRACE", "BREW", "CONNECT"),
    ),
    "upgrade": (
        ("h2c",),
        ("foo",),
        ("websocket",),
        ("WebSocket",),
        ("websocket, foo",),
        ("TLS/1.0",),
        ("",),
        ("foo", "h2c"),
        ("foo", "websocket"),
        (),
    ),
    "connection": (
        ("Upgrade",),
        ("upgrade",),
        ("keep-alive, Upgrade",),
        ("keep-alive", "Upgrade"),
        ("Upgrade, close",),
        ("Upgrade, HTTP2-Settings",),
        (),
    ),
    "order": ("ucf", "cuf", "fuc", "fcu", "ufc", "cfu"),
    "framing": ("length", "chunked", "chunk extensions"),
    "arrival": ("one packet", "head, body", "split", "lines"),
    "payload": ("begun", "filled", "long", "whole", "answer", "text", "two"),
    "version": ("1.1", "1.0"),
    "expects": (False, True),
    "before": (False, True),
    "after": (False, True),
    "preflight": (False, True),
    "target": range(5),
    "credential": ("none", "token"),
}
_FULL = ("method", "upgrade", "connection", "arrival")


@dataclass(frozen=True)
class Attack:
    """One attack: a request by `method` to `target`."""

    number: int
    method: str
    upgrade: Sequence[str]
    connection: Sequence[str]
    order: str
    """The order of Upgrade, Connection and the framing field, by their initials."""
    framing: str
    arrival: str
    payload: str
    version: str
    expects: bool
    before: bool
    after: bool
    preflight: bool
    target: str
    credential: str

    @classmethod
    def made(cls, number: int, row: dict[str, Any], targets: Sequence[str], token: str) -> Self:
        """Creates the attack that a row of `DIMENSIONS` describes."""
        target = targets[row["target"] % len(targets)]
        credential = token if row["credential"] == "token" else ""
        return cls(number=number, **{**row, "target": target, "credential": credential})

    @property
    def offers_websocket(self) -> bool:
        """Whether an Upgrade field is exactly `websocket`."""
        return any(value.lower() == "websocket" for value in self.upgrade)

    @property
    def has_one_reading(self) -> bool:
        """Whether all proxies agree on the end of this request.

        Some ignore chunks in HTTP/1.0 and the content of CONNECT (RFC 9112, section 6.1;
        RFC 9110, section 9.3.6). The body is then the attacker's own next request.
        """
        return self.method != "CONNECT" and (self.version == "1.1" or self.framing == "length")

    def body(self, cookie: str) -> bytes:
        """Returns the body before it is split into chunks."""
        ends = f" HTTP/1.1\r\nHost: localhost\r\n{cookie}\r\n".encode()
        query = f"?{STOLEN}{self.number}"
        begun = f"DELETE /me{query} HTTP/1.1\r\nX: ".encode()
        whole = f"DELETE /me{query}".encode() + ends + b"\r\n"
        answer = f"GET /me/identity{query}".encode() + ends + b"\r\n"
        return {
            "begun": begun,
            "filled": _FILLER + begun,
            "long": 50 * _FILLER + begun,
            "whole": whole,
            "answer": answer,
            "text": b'{"email": "a@example.com"}\r\n\r\n',
            "two": answer + begun,
        }[self.payload]

    def packets(self, cookie: str) -> list[bytes]:
        """Returns the bytes of each packet to send."""
        before = _LIVE if self.before else b""
        after = _LIVE if self.after else b""
        head, body = self._head(cookie), self._framed(self.body(cookie))
        if self.arrival == "one packet":
            return [before + head + body + after]
        if self.arrival == "head, body":
            return [before + head, body + after]
        if self.arrival == "lines":
            first, _, rest = head.partition(b"\r\n")
            return [before + first + b"\r\n", rest + body[:1], body[1:] + after]
        # Split where the hidden request begins.
        cut = max(body.find(b"DELETE"), 1)
        return [before + head + body[:cut], body[cut:] + after]

    def __str__(self) -> str:
        return " ".join(
            f"{field.name}={getattr(self, field.name)!r}"
            for field in fields(self)
            if field.name != "credential"
        )

    def _head(self, cookie: str) -> bytes:
        target = (
            "localhost:443" if self.method == "CONNECT" else f"{self.target}?case={self.number}"
        )
        lines = [f"{self.method} {target} HTTP/{self.version}", "Host: localhost"]
        if self.expects:
            lines.append("Expect: 100-continue")
        if self.preflight:
            lines += [f"Origin: {ORIGIN}", "Access-Control-Request-Method: POST"]
        if self.credential:
            lines.append(f"Authorization: {self.credential}")
        lines.append("Content-Type: application/json")
        groups = {
            "u": [f"Upgrade: {value}" for value in self.upgrade],
            "c": [f"Connection: {value}" for value in self.connection],
            "f": [self._framing_field(len(self.body(cookie)))],
        }
        for initial in self.order:
            lines += groups[initial]
        return "\r\n".join([*lines, "", ""]).encode()

    def _framing_field(self, length: int) -> str:
        return f"Content-Length: {length}" if self.framing == "length" else _CHUNKED

    def _framed(self, body: bytes) -> bytes:
        if self.framing == "length":
            return body
        extension = b";a=b" if self.framing == "chunk extensions" else b""
        return b"%x%s\r\n%s\r\n0%s\r\n\r\n" % (len(body), extension, body, extension)


_CHUNKED = "Transfer-Encoding: chunked"
_LIVE = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
SENTINEL = _LIVE


def attacks(targets: Sequence[str], token: str) -> list[Attack]:
    """Returns attacks with every pair of values; with `AUTHAPI_TEST_MATRIX=all`, all of `_FULL`."""
    rows = product(DIMENSIONS, _FULL) if ALL else pairs(DIMENSIONS)
    return [Attack.made(number, row, targets, token) for number, row in enumerate(rows)]
