"""A superuser at the console, and the people whose accounts they administer."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

import httpx

from authapi import Settings
from authapi.domain.events import Event, EventFilter
from authapi.domain.user import User
from authapi.testing import Client
from tests.web.logins import sign_in
from tests.web.pages.browser import Browser, Form, Page
from tests.web.pages.scenes import SCOPES, create_person, furnish, open_browser
from tests.web.routes.pages.people import ALICE, follow

ROOT = "root@example.com"
ROLES: Mapping[str, tuple[str, ...]] = {"editor": ("reports:write",), "reader": ("reports:read",)}


@dataclass(eq=False)
class Scene:
    """A browser in which a superuser is signed in, and another account."""

    browser: Browser
    root: User
    alice: User

    @property
    def api(self) -> Client:
        return self.browser.client

    @property
    def person(self) -> str:
        """The address of the page of the other account."""
        return f"/console/people/{self.alice.id}"

    async def send(self, path: str, **fields: str) -> httpx.Response:
        """The response to a form, without following a redirect."""
        return await self.browser.request("POST", path, fields)

    async def do(self, action: str, **fields: str) -> httpx.Response:
        """The page that a form about the other account leads to."""
        return await follow(self.api, await self.send(self.person, action=action, **fields))

    async def furnish(self, rows: int = 20) -> None:
        """Gives the other account roles, logins, tokens and events."""
        changes = {"roles": frozenset(ROLES)}
        await self.api.services.accounts.administration.change(self.alice.id, changes)  # type: ignore[arg-type]  # one change
        await furnish(self.api, self.alice, rows=rows)

    async def current(self) -> User:
        return await self.api.services.accounts.profiles.find(self.alice.id)

    async def events(self) -> list[Event]:
        """The events of the other account, the newest first."""
        wanted = EventFilter(user_id=self.alice.id)
        return list(await self.api.services.audit.search(wanted))

    async def sign_in_as(self, user: User) -> None:
        """Signs another person in, in the same browser."""
        self.api.headers.update(await sign_in(self.api.services, user))

    async def sessions(self, user_id: UUID) -> int:
        return len(await self.api.services.sessions.list_for_user(user_id))


@asynccontextmanager
async def console(settings: Settings, **options: str) -> AsyncIterator[Scene]:
    """A console with two accounts; the superuser is signed in."""
    async with open_browser(settings, **options) as browser:
        api = browser.client
        root = await create_person(api, ROOT, is_superuser=True)
        alice = await create_person(api, ALICE)
        api.headers.update(await sign_in(api.services, root))
        yield Scene(browser, root, alice)


def console_settings(url: str, **changes: object) -> Settings:
    """Settings with roles."""
    values = {"database_url": url, "scopes": SCOPES, "roles": ROLES, **changes}
    return Settings(**values)  # type: ignore[arg-type]  # pydantic parses them


def form_of(page: Page, action: str) -> Form:
    """The form with this action, or with a button of this text."""
    return next(
        form
        for form in page.forms()
        if action in (form.values.get("action"), form.button.text) and form.method == "post"
    )
