"""Accounts with passkeys, for tests of routes."""

from http.cookies import SimpleCookie
from typing import Any

import httpx

from authapi.domain.user import User
from authapi.testing import Client
from tests.soft_authenticator import SoftAuthenticator
from tests.web.logins import Headers, sign_in


async def options(api: Client, path: str, headers: Headers, **body: object) -> dict[str, Any]:
    """The options that a route answers with."""
    answer = await api.post(path, headers=headers, json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def register(
    api: Client, headers: Headers, passkey: SoftAuthenticator, name: str = "My phone"
) -> httpx.Response:
    """Adds a passkey to the account of the caller."""
    created = passkey.create(await options(api, "/me/factors/passkeys/options", headers))
    body = {"credential": created, "name": name}
    answer = await api.post("/me/factors/passkeys", json=body, headers=headers)
    api.cookies.clear()
    return answer


def renewed(answer: httpx.Response, headers: Headers) -> Headers:
    """The headers of further requests: with the new cookie, if there was one."""
    for line in answer.headers.get_list("set-cookie"):
        [cookie] = SimpleCookie(line).values()
        if cookie.key == "authapi":
            return {"cookie": f"authapi={cookie.value}"}
    return headers


async def add_passkey(
    api: Client, user: User, passkey: SoftAuthenticator, strategy: str = "session"
) -> tuple[dict[str, Any], Headers]:
    """Adds a passkey to an account without second factors; the answer, and a login that has it."""
    user = await api.services.accounts.email_changes.confirm_for_operator(user.id)
    headers = await sign_in(api.services, user, strategy)
    answer = await register(api, headers, passkey)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found, renewed(answer, headers)


async def log_in(
    api: Client, passkey: SoftAuthenticator, strategy: str = "token", **more: object
) -> httpx.Response:
    """Logs in by the passkey alone. The client keeps the cookie of the browser in between."""
    answer = passkey.get(await options(api, "/login/passkey/options", {}))
    body = {"credential": answer, "strategy": strategy, **more}
    return await api.post("/login/passkey", json=body)
