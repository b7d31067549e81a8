"""What authapi would send: the mail that waits in the outbox, read there and never delivered."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio
from fastapi import FastAPI

from authapi import Settings, create_app
from authapi.services import Services
from authapi.testing import Client, _runtime_of, client


@dataclass(frozen=True)
class Letter:
    """One mail."""

    occasion: str
    to: str
    secret: str | None
    name: str | None
    locale: str | None


@asynccontextmanager
async def client_with_mailbox(
    settings: Settings, app: FastAPI | None = None
) -> AsyncIterator[Client]:
    """A client of the shipped app whose mail stays in the outbox."""
    found = app or create_app(settings)
    keep_mail(_runtime_of(found).services)
    async with client(found) as api:
        yield api


def keep_mail(services: Services) -> None:
    """Let nobody deliver the mail of these services, which have not started."""
    services.outbox._handlers.pop("mail", None)


async def settle(services: Services) -> None:
    """Wait until what strangers have asked for is done."""
    with anyio.fail_after(20):
        while True:
            await services.outbox.work("request")
            if not any(kind == "request" for kind, _, _ in await _entries(services)):
                return
            await anyio.sleep(0.005)  # the service's own task is at it


async def letters(services: Services, to: str | None = None) -> list[Letter]:
    """All mail, or that to one address, the oldest first."""
    await settle(services)
    found = [
        Letter(purpose, told["to"], told["secret"], told["name"], told["locale"])
        for kind, purpose, told in await _entries(services)
        if kind == "mail"
    ]
    return [letter for letter in found if to in (None, letter.to)]


async def occasions(services: Services, to: str | None = None) -> list[str]:
    """What they are about."""
    return [letter.occasion for letter in await letters(services, to)]


async def secret_in(services: Services, occasion: str, to: str) -> str:
    """What the newest mail of this kind to this address proves."""
    found = [letter for letter in await letters(services, to) if letter.occasion == occasion]
    assert found, f"no {occasion} to {to}"
    secret = found[-1].secret
    assert secret is not None
    return secret


async def _entries(services: Services) -> list[tuple[str, str, dict[str, Any]]]:
    async with services.database.read() as store:
        rows = await store.outbox.page(after=None, limit=1000)
    return [(row.kind, row.purpose, dict(services.outbox.read(row))) for row in rows]
