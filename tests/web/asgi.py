"""ASGI requests with raw bytes that an HTTP client would not send."""

import asyncio
from collections.abc import Iterable, Sequence
from urllib.parse import unquote

import httpx
from fastapi import FastAPI
from starlette.types import Message, Receive, Scope

RawHeaders = Sequence[tuple[bytes, bytes]]
HOST = (b"host", b"127.0.0.1:8000")


def scope_of(
    method: str,
    path: bytes,
    *,
    query: bytes = b"",
    headers: RawHeaders = (),
    kind: str = "http",
    host: bool = True,
) -> Scope:
    """Returns the scope that uvicorn creates for a request, with header names in lower case.

    With `host`, a Host header is added unless `headers` has one.
    """
    if host and not any(name.lower() == b"host" for name, _ in headers):
        headers = [HOST, *headers]
    scope: Scope = {
        "type": kind,
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "ws" if kind == "websocket" else "http",
        "path": unquote(path.decode("latin-1")),
        "raw_path": path,
        "query_string": query,
        "root_path": "",
        "headers": [(name.lower(), value) for name, value in headers],
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 8000),
    }
    if kind == "websocket":
        scope["subprotocols"] = []
    return scope


async def ask(
    app: FastAPI,
    method: str,
    path: bytes,
    *,
    query: bytes = b"",
    headers: RawHeaders = (),
    body: Iterable[bytes] = (),
    disconnects: bool = False,
    receive: Receive | None = None,
    host: bool = True,
) -> httpx.Response:
    """Returns the response of `app`. With `disconnects`, the client disconnects after `body`.

    `receive` replaces `body`.
    """
    chunks = list(body)
    messages: list[Message] = [
        {"type": "http.request", "body": chunk, "more_body": disconnects or left > 0}
        for chunk, left in zip(chunks, range(len(chunks) - 1, -1, -1), strict=True)
    ] or [{"type": "http.request", "body": b"", "more_body": disconnects}]
    sent: list[Message] = []

    async def receive_body() -> Message:
        if not messages and not disconnects:
            await asyncio.Event().wait()  # the client waits for the response
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = scope_of(method, path, query=query, headers=headers, host=host)
    await app(scope, receive or receive_body, send)
    start, *rest = sent
    assert start["type"] == "http.response.start"
    assert all(message["type"] == "http.response.body" for message in rest)
    assert not rest[-1].get("more_body", False)
    content = b"".join(message.get("body", b"") for message in rest)
    # Unchanged; a URL would normalize the path.
    extensions = {"path": scope["path"]}
    response = httpx.Response(
        start["status"], headers=start["headers"], content=content, extensions=extensions
    )
    # httpx adds Content-Length if the application has not sent one.
    response.headers = httpx.Headers(start["headers"])
    return response
