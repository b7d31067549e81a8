"""The application, and clients at addresses that the test chooses."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx
from fastapi import FastAPI

from authapi import Settings, create_app
from authapi.testing import Client, client

WRONG = "not the password of any account"


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
        """A client with its own cookies, whose connection comes from `ip`, if not None."""
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
    """Runs the application during the block."""
    app = create_app(settings)
    async with client(app, base_url=base_url) as api:
        yield Service(app, api, base_url)


async def guess(
    visitor: httpx.AsyncClient, email: str, password: str = WRONG, **headers: str
) -> httpx.Response:
    """Try to log in once."""
    return await visitor.post(
        "/login",
        json={"email": email, "password": password, "strategy": "token"},
        headers=headers,
    )


def comparable(response: httpx.Response) -> tuple[int, dict[str, object], list[tuple[str, str]]]:
    """The parts of a response to compare: all but the values that differ for each request."""
    body = response.json() | {"request_id": ""}
    own = ("x-request-id", "retry-after")
    return (
        response.status_code,
        body,
        [item for item in response.headers.multi_items() if item[0] not in own],
    )
