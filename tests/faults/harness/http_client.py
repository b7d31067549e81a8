"""HTTP over plain sockets: each response has its times, and no request is sent twice.

A client library retries, pools connections and follows redirects by itself. Here a request is one
attempt, a missing response raises `Lost`, and `hang_up` can close the connection at any point.
"""

import asyncio
import contextlib
import json as jsonlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode

Headers = Mapping[str, str]


class Lost(Exception):
    """There was no response: it is unknown whether the request had an effect."""


@dataclass(frozen=True, slots=True)
class Response:
    """A response. Times are those of `time.monotonic()`."""

    status: int
    headers: Headers
    body: bytes
    started_at: float
    ended: float

    def json(self) -> Any:
        return jsonlib.loads(self.body)

    @property
    def seconds(self) -> float:
        return self.ended - self.started_at


@dataclass
class Client:
    """Sends requests to one port over persistent connections, one request at a time on each."""

    port: int
    timeout: float = 30.0
    keeps_alive: bool = True
    _idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = field(default_factory=list)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        for _, writer in self._idle:
            await _close(writer)
        self._idle.clear()

    async def get(self, path: str, headers: Headers | None = None) -> Response:
        return await self.send("GET", path, headers=headers)

    async def post(
        self, path: str, json: object = None, headers: Headers | None = None
    ) -> Response:
        return await self.send("POST", path, json=json, headers=headers)

    async def delete(self, path: str, headers: Headers | None = None) -> Response:
        return await self.send("DELETE", path, headers=headers)

    async def grant(self, refresh_token: str) -> Response:
        """Exchanges a refresh token."""
        form = {"grant_type": "refresh_token", "refresh_token": refresh_token}
        return await self.send("POST", "/token", form=form)

    async def send(
        self,
        method: str,
        path: str,
        *,
        json: object = None,
        form: Mapping[str, str] | None = None,
        headers: Headers | None = None,
    ) -> Response:
        """Returns the response. Raises Lost if there is none within `timeout` seconds."""
        started_at = time.monotonic()
        writer = None
        try:
            async with asyncio.timeout(self.timeout):
                reader, writer = await self._connection()
                writer.write(render_request(method, path, json, headers, form))
                await writer.drain()
                status, fields, body = await _read(reader)
        except (OSError, EOFError, TimeoutError, ValueError) as error:
            if writer is not None:
                await _close(writer)
            raise Lost(f"{method} {path}: {error!r}") from error
        except BaseException:
            if writer is not None:
                writer.transport.abort()
            raise
        ended = time.monotonic()
        if self.keeps_alive and fields.get("connection", "").lower() != "close":
            self._idle.append((reader, writer))
        else:
            await _close(writer)
        return Response(status, fields, body, started_at, ended)

    async def hang_up(
        self, method: str, path: str, *, json: object, headers: Headers | None, after: float
    ) -> None:
        """Sends a request, and closes the connection `after` that many seconds."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(render_request(method, path, json, headers))
            with contextlib.suppress(OSError, EOFError, TimeoutError):
                async with asyncio.timeout(after):
                    await reader.read(1)
        finally:
            writer.transport.abort()
            await _close(writer)

    async def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while self._idle:
            reader, writer = self._idle.pop()
            if not reader.at_eof() and not writer.is_closing():
                return reader, writer
            await _close(writer)
        return await asyncio.open_connection("127.0.0.1", self.port)


def render_request(
    method: str,
    path: str,
    json: object,
    headers: Headers | None,
    form: Mapping[str, str] | None = None,
) -> bytes:
    """Returns a request as bytes."""
    body = b"" if json is None else jsonlib.dumps(json).encode()
    if form is not None:
        body = urlencode(form).encode()
    fields = {"Host": "127.0.0.1", "Content-Length": str(len(body)), **(headers or {})}
    if json is not None:
        fields["Content-Type"] = "application/json"
    if form is not None:
        fields["Content-Type"] = "application/x-www-form-urlencoded"
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def _read(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    status, fields = int(head[0].split(" ", 2)[1]), dict[str, str]()
    for line in head[1:]:
        name, _, value = line.partition(":")
        if name:
            fields[name.lower()] = value.strip()
    return status, fields, await reader.readexactly(int(fields.get("content-length", "0")))


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
