"""A superuser at the console, whose service delivers nothing by itself."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from authapi import Settings, create_app
from authapi.clock import now
from authapi.domain.events import Event, EventFilter, EventType
from authapi.domain.user import User
from authapi.services.mail import MailKind
from authapi.testing import Client, client
from authapi.web.installation import runtime_of
from tests.servers.webhooks import SECRET, Post
from tests.web.pages.browser import Browser, Form, Page
from tests.web.pages.scenes import create_person
from tests.web.routes.pages.people import sign_in_by_page

ROOT = "root@example.com"
GOOD, BAD = "https://hooks.example.org/secret-path?key=secret", "https://bad.example.net/other"
HOOKS: Mapping[str, Any] = {"webhook_urls": (GOOD, BAD), "webhook_secret": SECRET}
HOSTILE = "<script>alert(1)</script>\"'&{{ 7 * 7 }}"


@dataclass
class Desk:
    """The browser of a superuser who has signed in just now."""

    browser: Browser
    user: User
    post: Post

    @property
    def api(self) -> Client:
        return self.browser.client

    async def queue_mail(self, count: int = 1) -> None:
        async with self.api.services.database.transaction() as store:
            for _ in range(count):
                await self.api.services.mail.queue(
                    store, MailKind.RESET, self.user, secret="the-secret-of-the-link"
                )

    async def rename(self) -> None:
        """Causes an event, which webhooks report."""
        administration = self.api.services.accounts.administration
        name = str(now())
        await administration.change(self.user.id, {"name": name})

    async def give_up(self, kind: str, error: str, *, receiver: str = "") -> list[UUID]:
        """Ends the attempts of all entries of a receiver."""
        async with self.api.services.database.transaction() as store:
            claimed = await store.outbox.claim(kind, receiver, now=now(), until=now(), limit=100)
            for entry in claimed:
                await store.outbox.mark_failed(entry, at=now(), error=error)
        return [entry.id for entry in claimed]

    async def waiting(self, kind: str) -> int:
        state = await self.api.services.queues.state(kind)
        return state.waiting

    async def events(self, kind: EventType) -> list[Event]:
        return list(await self.api.services.audit.search(EventFilter(type=kind)))

    def receiver_of(self, url: str) -> str:
        receivers = self.api.services.webhooks.receivers
        [found] = [name for name, it in receivers.items() if it == url]
        return found


@asynccontextmanager
async def open_desk(database_url: str, *, email: str = ROOT, **changes: Any) -> AsyncIterator[Desk]:
    """Opens the console of a service with a superuser, who is signed in."""
    app = create_app(Settings(database_url=database_url, **changes))  # type: ignore[arg-type]  # pydantic parses it
    services, post = runtime_of(app).services, Post({GOOD: 204, BAD: 410})
    for kind in ("mail", "webhook"):
        services.outbox._handlers.pop(kind, None)
    services.webhooks._post = post
    async with client(app) as api:
        user = await create_person(api, email, is_superuser=True)
        await sign_in_by_page(api, email)
        yield Desk(Browser(api), user, post)


def button(page: Page, name: str, value: str | None = None) -> Form:
    """The form of a page, sent by the button with this name, and this value if it is given."""
    [found, *_] = [
        form
        for form in page.forms()
        if form.button["name"] == name and value in {None, form.button["value"]}
    ]
    return found


def has_button(page: Page, name: str, value: str) -> bool:
    """Whether a page has this button."""
    return any((it.button["name"], it.button["value"]) == (name, value) for it in page.forms())


def rows_of(page: Page, number: int = 0) -> list[list[str]]:
    """The texts of the cells of a table of the page; none if there is no such table."""
    tables = page.root.all("table")
    if len(tables) <= number:
        return []
    return [
        [" ".join(cell.text.split()) for cell in row.children]
        for row in tables[number].children[2].children
    ]


def banner(page: Page) -> str:
    """The text of the message of a form, or an empty text."""
    found = [item.text for item in page.root if item["role"] == "status" and item["class"]]
    return next((text for text in found if text), "").strip()
