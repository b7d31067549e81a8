"""A small connection pooler for tests, with the behavior of PgBouncer and of other poolers."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Literal

import psycopg
import sqlalchemy as sa

_SSL_REQUEST = 80877103
_CANCEL_REQUEST = 80877102


@dataclass(eq=False)
class Session:
    """A server session after login."""

    connection: psycopg.AsyncConnection
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @property
    def pid(self) -> int:
        return self.connection.info.backend_pid

    async def run(self, statement: str) -> str | None:
        """Returns the first value of ``statement``. The session must not be in use by a client."""
        self.writer.write(_message(b"Q", statement.encode() + b"\0"))
        value = None
        while True:
            kind, message = await _read(self.reader)
            if kind == b"D":  # length, number of values, length of the first
                value = message[11 : 11 + int.from_bytes(message[7:11])].decode()
            assert kind != b"E", message
            if kind == b"Z":
                return value

    async def close(self) -> None:
        self.writer.close()
        await self.connection.close()


@dataclass(eq=False)
class Pooler:
    """Accepts every client, and assigns server sessions according to ``mode``.

    ``key`` selects the process id that clients receive: the pooler's own, as with PgBouncer, or
    that of a server session. ``in_turn`` assigns the session that was idle for the longest instead
    of the shortest time (PgBouncer's ``server_round_robin``). With several ``groups``, each client
    gets the sessions of one group only, like several pooler processes behind one address. The
    start-up parameter ``options`` is ignored, or refused with PgBouncer's message if
    ``refuses_options``.
    """

    server: str
    mode: Literal["session", "transaction"] = "transaction"
    key: Literal["own", "server"] = "own"
    in_turn: bool = False
    groups: int = 1
    refuses_options: bool = False
    url: str = ""
    idle: list[list[Session]] = field(default_factory=list)
    all: list[Session] = field(default_factory=list)
    _clients: int = 0

    async def open(self) -> Session:
        connection = await psycopg.AsyncConnection.connect(self.server, autocommit=True)
        shared = socket.socket(fileno=os.dup(connection.fileno()))
        session = Session(connection, *await asyncio.open_connection(sock=shared))
        self.all.append(session)
        return session

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            parameters = await _startup(reader, writer)
            if self.refuses_options and b"\0options\0" in parameters:
                text = b"unsupported startup parameter: options"
                writer.write(_message(b"E", b"SFATAL\0C08P01\0M" + text + b"\0\0"))
            elif parameters:
                await self._follow(reader, writer)
        writer.close()

    async def _follow(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients += 1
        idle = self.idle[self._clients % self.groups]
        own = await self.open() if self.mode == "session" else None
        pid = (own or idle[-1]).pid if self.key == "server" else 1_000_000_000 + self._clients
        writer.write(
            _message(b"R", (0).to_bytes(4))
            + _message(b"S", b"server_version\x0018.0\0")
            + _message(b"S", b"client_encoding\x00UTF8\0")
            + _message(b"S", b"standard_conforming_strings\x00on\0")
            + _message(b"K", pid.to_bytes(4) + b"\0\0\0\1")
            + _message(b"Z", b"I")
        )
        session = own
        try:
            while (asked := await _asked(reader)) is not None:
                while session is None:
                    if idle:
                        session = idle.pop(0 if self.in_turn else -1)
                    else:
                        await asyncio.sleep(0.001)  # like a client that queues for a session
                session.writer.write(asked)
                if await _answered(session.reader, writer) == b"I" and own is None:
                    idle.append(session)
                    session = None
        finally:
            if own is not None:
                await own.close()
            elif session is not None:
                await session.run("ROLLBACK")
                idle.append(session)


@asynccontextmanager
async def pooling(url: str, sessions: int = 2, **choices: object) -> AsyncIterator[Pooler]:
    """Runs a ``Pooler`` for the database at ``url``, with ``sessions`` in each group."""
    found = Pooler(url, **choices)  # type: ignore[arg-type]  # its fields
    if found.mode == "transaction":
        found.idle = [[await found.open() for _ in range(sessions)] for _ in range(found.groups)]
    else:
        found.idle = [[]]
    served: list[asyncio.Task[None]] = []

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.append(asyncio.create_task(found.serve(reader, writer)))

    async with await asyncio.start_server(accept, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        found.url = (
            sa.make_url(url).set(host="127.0.0.1", port=port).render_as_string(hide_password=False)
        )
        try:
            yield found
            async with asyncio.timeout(10):  # all clients are closed by now
                await asyncio.gather(*served)
        finally:
            for task in served:
                task.cancel()
            await asyncio.gather(*served, return_exceptions=True)
            for session in found.all:
                await session.close()


async def _startup(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """Returns the start-up message of a client, or nothing for a cancel request. Refuses TLS."""
    while True:
        length = int.from_bytes(await reader.readexactly(4))
        message = await reader.readexactly(length - 4)
        code = int.from_bytes(message[:4])
        if code != _SSL_REQUEST:
            return b"" if code == _CANCEL_REQUEST else message
        writer.write(b"N")


async def _asked(reader: asyncio.StreamReader) -> bytes | None:
    """Returns the messages up to one that ReadyForQuery answers, or None at the end."""
    asked = b""
    while True:
        kind, message = await _read(reader)
        if kind == b"X":
            return None
        asked += message
        if kind in {b"Q", b"S"}:
            return asked


async def _answered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """Forwards all messages up to ReadyForQuery, and returns its transaction status."""
    while True:
        kind, message = await _read(reader)
        writer.write(message)
        if kind == b"Z":
            return message[5:]


async def _read(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = await reader.readexactly(5)
    return head[:1], head + await reader.readexactly(int.from_bytes(head[1:]) - 4)


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + (len(body) + 4).to_bytes(4) + body
