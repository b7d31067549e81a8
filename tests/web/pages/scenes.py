"""People who use the pages: how they are signed in, and what their accounts contain."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from fastapi import FastAPI

from authapi import AuthAPI, Settings, create_app
from authapi.clock import now
from authapi.crypto.secrets import hash_secret
from authapi.domain.client import Client as Caller
from authapi.domain.client import on_behalf_of
from authapi.domain.email_address import parse_email
from authapi.domain.email_token import Purpose
from authapi.domain.events import EventType
from authapi.domain.session import SessionKind
from authapi.domain.user import User
from authapi.testing import Client
from tests.second_factors import SecondFactors
from tests.soft_authenticator import SoftAuthenticator
from tests.web.logins import sign_in
from tests.web.mailbox import client_with_mailbox
from tests.web.pages.browser import Browser
from tests.web.routes.pages.people import ALICE

_SAFARI = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15"
_EDGE = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko)"
AGENTS = (
    f"{_SAFARI} (KHTML, like Gecko) Version/18.1 Mobile/15E148 Safari/604.1",
    f"{_EDGE} Chrome/142.0.0.0 Safari/537.36 Edg/142.0.0.0",
    "curl/8.11.1",
)
SCOPES: Mapping[str, str] = {"reports:read": "Read reports", "reports:write": ""}
ROWS = 20
"""The rows for which the weight of a page is limited."""


@dataclass(eq=False)
class Scene:
    """A browser at an installation, and the person who sits before it."""

    api: Client
    browser: Browser
    user: User
    factors: SecondFactors | None = None
    passkeys: Sequence[SoftAuthenticator] = field(default_factory=list)


def installed(settings: Settings, prefix: str) -> FastAPI:
    """The service, or with a prefix an application that imports the package."""
    if not prefix:
        return create_app(settings)
    auth = AuthAPI(settings)
    app = FastAPI(lifespan=auth.lifespan, docs_url=None)
    auth.install(app, prefix=prefix)
    return app


@asynccontextmanager
async def open_browser(
    settings: Settings, *, language: str = "en", prefix: str = ""
) -> AsyncIterator[Browser]:
    """A browser at an installation, which keeps its mail in the outbox."""
    async with client_with_mailbox(settings, installed(settings, prefix)) as api:
        yield Browser(api, language)


async def create_person(api: Client, email: str = ALICE, *, is_superuser: bool = False) -> User:
    """An account with a confirmed address."""
    user = await api.create_user(email, name="Alice", is_superuser=is_superuser)
    return await api.services.accounts.email_changes.confirm_for_operator(user.id)


async def furnish(api: Client, user: User, *, rows: int = ROWS) -> None:
    """Gives the account logins, tokens and events."""
    services = api.services
    for number in range(rows):
        caller = Caller(ip=f"2001:db8::{number:x}", user_agent=AGENTS[number % len(AGENTS)])
        with on_behalf_of(lambda it=caller: it):  # type: ignore[misc]  # bound at once
            strategy = ("session", "token", "jwt")[number % 3]
            await sign_in(services, user, strategy, client=caller)
            kind = EventType.LOGIN_REFUSED if number % 2 else EventType.REAUTHENTICATED
            await services.audit.record_separately(kind, user_id=user.id)
    [_, secret] = (await sign_in(services, user))["cookie"].split("=", 1)
    owner = await services.sessions.identify_by_secret(
        hash_secret(secret), SessionKind.SESSION, strategy="session"
    )
    assert owner is not None
    for number in range(rows):
        await services.tokens.personal.create(
            owner, name=f"token {number}", scopes=list(services.settings.scopes), lifetime=None
        )


async def without_password(api: Client, user: User) -> None:
    """Removes the password of an account that is signed in."""
    async with api.services.database.transaction() as store:
        await store.users.lock(user.id)
        await store.users.set_password(user.id, None, at=now())


async def mailed(api: Client, user: User, purpose: Purpose, *, email: str = ALICE) -> str:
    """A token as a mail contains it."""
    tokens = api.services.accounts.email_changes._email_tokens
    async with api.services.database.transaction() as store:
        await store.users.lock(user.id)
        return (await tokens.issue(store, user, purpose, email=parse_email(email))).text
