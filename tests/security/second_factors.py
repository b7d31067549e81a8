"""An application with every way to log in, and an account that has a second factor."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from authapi import Settings
from authapi.testing import PASSWORD, Client
from tests.second_factors import SecondFactors, add_second_factors
from tests.security.attack import bearer
from tests.web.mailbox import client_with_mailbox

STRATEGIES = ("session", "token", "jwt")


@asynccontextmanager
async def application(url: str, **changes: object) -> AsyncIterator[Client]:
    """A client of the shipped application whose mail stays in the outbox."""
    settings = Settings(
        database_url=url,  # type: ignore[arg-type]  # pydantic parses it
        strategies=(*STRATEGIES, "basic"),
        password_grant="on",
        **changes,  # type: ignore[arg-type]
    )
    async with client_with_mailbox(settings) as api:
        yield api


async def alice_of(api: Client) -> SecondFactors:
    """A new account with a confirmed address and second factors."""
    user = await api.create_user("alice@example.com")
    user = await api.services.accounts.email_changes.confirm_for_operator(user.id)
    return await add_second_factors(api.services, user)


async def begin(api: Client, strategy: str = "token", **more: object) -> httpx.Response:
    """The answer to the right password."""
    body = {"email": "alice@example.com", "password": PASSWORD, "strategy": strategy, **more}
    return await api.post("/login", json=body)


async def finish(api: Client, asked: httpx.Response, **code: str) -> httpx.Response:
    """The answer to the second step of the login that `asked` for it."""
    assert asked.json()["code"] == "second_factor_required"
    ticket = {"ticket": asked.json()["ticket"]} if "ticket" in asked.json() else {}
    return await api.post("/login/second-factor", json={**ticket, **code})


async def credential(api: Client, done: httpx.Response) -> dict[bytes, bytes]:
    """The headers with the credential that a login has issued."""
    assert done.status_code == 200, done.text
    token = done.json().get("access_token")
    if token is not None:
        return bearer(token)
    value = done.cookies["authapi"]
    api.cookies.clear()
    return {b"cookie": f"authapi={value}".encode()}


async def sessions(api: Client, alice: SecondFactors) -> int:
    """How many logins the account has."""
    return len(await api.services.sessions.list_for_user(alice.user.id))
