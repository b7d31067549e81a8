"""Visits to providers of this process, for tests of the routes."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from urllib.parse import parse_qsl, urlsplit
from uuid import UUID

import httpx

from authapi import Settings
from authapi.app import create_service
from authapi.domain.federation.flow import Callback, Flow
from authapi.domain.federation.person import Person
from authapi.domain.user import User
from authapi.errors import ProviderRefused
from authapi.testing import Client, client

ORIGIN = "http://127.0.0.1:8000"
ISSUER = "https://id.acme.example"
PROVIDERS = {
    "acme": {"issuer": ISSUER, "client_id": "shop", "title": "Acme"},
    "other": {"issuer": "https://id.other.example", "client_id": "shop", "title": "Other"},
}


def person(subject: str = "1", **changes: object) -> Person:
    """Returns a person at the provider `acme` with a trusted address."""
    values: dict[str, object] = {
        "provider": "acme",
        "issuer": ISSUER,
        "subject": subject,
        "email": f"person{subject}@example.com",
        "email_verified": True,
        "is_authoritative": True,
        "name": "A Person",
    }
    return Person(**{**values, **changes})  # type: ignore[arg-type]  # values of a person


class FakeUpstream:
    """A provider whose codes are set by the test."""

    is_form_post = False
    proves_fresh_login = True

    def __init__(self, name: str, title: str) -> None:
        self.name, self.title = name, title
        self.codes: dict[str, Person | Exception] = {}
        """What each code leads to. A code works once, as at a provider."""
        self.started: list[tuple[Flow, str | None]] = []
        self.callbacks: list[tuple[Callback, Flow, str]] = []
        self.unavailable: Exception | None = None

    async def authorization_url(
        self, flow: Flow, *, redirect_uri: str, hint: str | None = None
    ) -> str:
        if self.unavailable is not None:
            raise self.unavailable
        self.started.append((flow, hint))
        return f"https://id.{self.name}.example/auth?state={flow.state}&redirect_uri={redirect_uri}"

    async def person(self, callback: Callback, flow: Flow, *, redirect_uri: str) -> Person:
        self.callbacks.append((callback, flow, redirect_uri))
        found = self.codes.pop(callback.code, ProviderRefused())
        if isinstance(found, Exception):
            raise found
        return found


class FakeUpstreams:
    """The providers of an application under test."""

    def __init__(self) -> None:
        self._by_name = {it: FakeUpstream(it, it.title()) for it in PROVIDERS}
        self.is_closed = False

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)

    def __getitem__(self, name: str) -> FakeUpstream:
        return self._by_name[name]

    def redirect_uri(self, name: str) -> str:
        return f"{ORIGIN}/login/with/{name}/callback"

    async def aclose(self) -> None:
        self.is_closed = True


class Visitor:
    """A browser, which begins visits to providers and comes back."""

    def __init__(self, api: Client, upstreams: FakeUpstreams) -> None:
        self.api = api
        self.acme = upstreams["acme"]
        self.upstreams = upstreams

    async def start(self, name: str = "acme", **body: object) -> str:
        """Begins a login by a script; returns `state`."""
        answer = await self.api.post(f"/login/with/{name}", json=body)
        assert answer.status_code == 200, answer.text
        return state_of(answer.json()["url"])

    async def come_back(
        self,
        state: str,
        who: Person | Exception | None = None,
        *,
        name: str = "acme",
        code: str = "a-code",
        **parameters: str,
    ) -> httpx.Response:
        """Comes back from the provider, which has authenticated `who`."""
        if who is not None:
            self.upstreams[name].codes[code] = who
        query = {"state": state, "code": code, **parameters}
        sent = {key: value for key, value in query.items() if value}
        return await self.api.get(f"/login/with/{name}/callback", params=sent, headers=NAVIGATION)

    async def account(self) -> User:
        """Returns the account that is logged in."""
        user_id = UUID((await self.api.get("/me")).json()["id"])
        async with self.api.services.database.read() as store:
            found = await store.users.find(user_id)
        assert found is not None
        return found

    async def log_in(self, who: Person, **body: object) -> httpx.Response:
        """Logs in at the provider; returns the answer to the callback."""
        return await self.come_back(await self.start(who.provider, **body), who, name=who.provider)


NAVIGATION = {"sec-fetch-site": "cross-site", "sec-fetch-dest": "document", "accept": "text/html"}
"""The headers of a browser that a provider leads back."""


def state_of(url: str) -> str:
    """Returns the `state` in an address at a provider."""
    return dict(parse_qsl(urlsplit(url).query))["state"]


def settings_with_providers(database_url: str, **changes: object) -> Settings:
    """Returns settings with two providers, on a database."""
    values = {"database_url": database_url, "public_url": ORIGIN, "providers": PROVIDERS, **changes}
    return Settings(**values)  # type: ignore[arg-type]  # pydantic parses it


@asynccontextmanager
async def visiting(settings: Settings) -> AsyncIterator[Visitor]:
    """A browser of the service, whose providers are of this process."""
    auth, app = create_service(settings)
    upstreams = FakeUpstreams()
    auth.runtime.upstreams = upstreams
    async with client(app, base_url=ORIGIN) as api:
        yield Visitor(api, upstreams)
