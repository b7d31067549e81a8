"""The shipped application, seen by callers at addresses of the test's choosing."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx
from fastapi import FastAPI

from authapi import Settings, create_app
from authapi.testing import Client, client

WRONG = "not the password of anybody"


@dataclass(frozen=True)
class Service:
    """A running application."""

    app: FastAPI
    api: Client
    base_url: str

    @property
    def database(self) -> str:
        """The URL of its database."""
        return self.api.services.settings.resolved_database_url

    def at(self, ip: str | None, *, headers: Mapping[str, str] | None = None) -> httpx.AsyncClient:
        """A caller with cookies of its own whose connection comes from `ip`, if any."""
        peer = None if ip is None else (ip, 50000)
        transport = httpx.ASGITransport(
            self.app,
            raise_app_exceptions=False,
            client=peer,  # type: ignore[arg-type]  # ASGI allows None, httpx passes it on
        )
        return httpx.AsyncClient(transport=transport, base_url=self.base_url, headers=headers)


@asynccontextmanager
async def serving(
    settings: Settings, *, base_url: str = "http://127.0.0.1:8000"
) -> AsyncIterator[Service]:
    """The application for the length of the block."""
    app = create_app(settings)
    async with client(app, base_url=base_url) as api:
        yield Service(app, api, base_url)


async def guess(
    visitor: httpx.AsyncClient, email: str, password: str = WRONG, **headers: str
) -> httpx.Response:
    """One login."""
    return await visitor.post(
        "/login",
        json={"email": email, "password": password, "strategy": "token"},
        headers=headers,
    )


def told(response: httpx.Response) -> tuple[int, dict[str, object], list[tuple[str, str]]]:
    """All of an answer that does not differ from one request to the next by its nature."""
    body = response.json() | {"request_id": ""}
    own = ("x-request-id", "retry-after")
    return (
        response.status_code,
        body,
        [item for item in response.headers.multi_items() if item[0] not in own],
    )
