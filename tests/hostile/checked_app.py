"""Sends hostile requests to an application, and checks each response."""

import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import httpx
import pytest
from fastapi import FastAPI

from authapi import Settings, create_app
from authapi.domain.user import User
from authapi.testing import PASSWORD, Client, client
from tests.hostile.nasty_json import CANARY
from tests.web.asgi import RawHeaders, ask
from tests.web.logins import Headers, sign_in
from tests.web.operations import Operation, operations
from tests.web.responses import problem

JSON = [(b"content-type", b"application/json")]


class CheckedApp:
    """An application whose responses and log are checked."""

    def __init__(self, app: FastAPI, api: Client, caplog: pytest.LogCaptureFixture) -> None:
        self.app = app
        self.api = api
        self.operations = operations(app)
        self.readers = [item for item in self.operations if item.content_type]
        self.json_readers = [item for item in self.operations if item.reads_json]
        self._caplog = caplog

    async def ask(
        self,
        method: str,
        path: str | bytes,
        *,
        headers: RawHeaders = (),
        query: bytes = b"",
        body: bytes | Iterable[bytes] = (),
    ) -> httpx.Response:
        """Send a request, and return the response.

        The response must not be a server error, and an error must not reflect CANARY.
        """
        raw = path.encode() if isinstance(path, str) else path
        chunks = [body] if isinstance(body, bytes) else body
        response = await ask(self.app, method, raw, headers=headers, query=query, body=chunks)
        assert response.status_code < 500, response.text
        if response.status_code >= 400:
            assert CANARY.lower() not in str(response.headers).lower()
            assert CANARY.lower().encode() not in response.content.lower()
            if method != "HEAD":
                problem(response, response.status_code, response.json()["code"])
        return response

    def check_log(self) -> None:
        """Check that the log has no warnings and does not contain CANARY."""
        assert CANARY.lower() not in self._caplog.text.lower()
        assert [r for r in self._caplog.records if r.levelno >= logging.WARNING] == []

    async def headers(self, operation: Operation, user: User) -> RawHeaders:
        """A valid credential for this operation, if it accepts one."""
        if not operation.strategies:
            return []
        known = [name for name in ("session", "jwt", "token") if name in operation.strategies]
        return raw(await sign_in(self.api.services, user, known[0]))


def raw(headers: Headers) -> list[tuple[bytes, bytes]]:
    """Headers in the format of ASGI."""
    return [(name.encode(), value.encode()) for name, value in headers.items()]


@asynccontextmanager
async def open_checked_app(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> AsyncIterator[CheckedApp]:
    """An application with these settings. Its log is checked at the end."""
    caplog.set_level(logging.INFO)
    app = create_app(settings)
    async with client(app) as api:
        found = CheckedApp(app, api, caplog)
        yield found
    found.check_log()


__all__ = ["JSON", "PASSWORD", "CheckedApp", "open_checked_app", "raw"]
