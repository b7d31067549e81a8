"""Reads mail from the outbox instead of delivering it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio
from fastapi import FastAPI

from authapi import Settings, create_app
from authapi.services import Services
from authapi.testing import Client, client
from authapi.web.installation import runtime_of


@dataclass(frozen=True)
class SentMail:
    """One mail."""

    kind: str
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
    keep_mail(runtime_of(found).services)
    async with client(found) as api:
        yield api


def keep_mail(services: Services) -> None:
    """Keep the mail of these services, which are not started yet, in the outbox."""
    services.outbox._handlers.pop("mail", None)


async def settle(services: Services) -> None:
    """Wait until all deferred requests are done."""
    with anyio.fail_after(20):
        while True:
            await services.outbox.run_due("request")
            if not any(kind == "request" for kind, _, _ in await _entries(services)):
                return
            await anyio.sleep(0.005)  # the background task of the service may process them


async def sent_mail(services: Services, to: str | None = None) -> list[SentMail]:
    """All mail, or the mail to one address, oldest first."""
    await settle(services)
    found = [
        SentMail(purpose, told["to"], told["secret"], told["name"], told["locale"])
        for kind, purpose, told in await _entries(services)
        if kind == "mail"
    ]
    return [mail for mail in found if to in (None, mail.to)]


async def mail_kinds(services: Services, to: str | None = None) -> list[str]:
    """The kinds of this mail, oldest first."""
    return [mail.kind for mail in await sent_mail(services, to)]


async def secret_in(services: Services, kind: str, to: str) -> str:
    """The secret in the newest mail of this kind to this address."""
    found = [mail for mail in await sent_mail(services, to) if mail.kind == kind]
    assert found, f"no {kind} mail to {to}"
    secret = found[-1].secret
    assert secret is not None
    return secret


async def _entries(services: Services) -> list[tuple[str, str, dict[str, Any]]]:
    async with services.database.read() as store:
        rows = await store.outbox.page(after=None, limit=1000)
    return [(row.kind, row.purpose, dict(services.outbox.decrypt_payload(row))) for row in rows]
