"""Logging in and out, over HTTP, by each strategy."""

import pytest

from authapi.testing import PASSWORD, Client


@pytest.mark.parametrize("strategy", ["session", "token", "jwt"])
async def test_logout_ends_what_login_began(api_on_each: Client, strategy: str) -> None:
    alice = await api_on_each.create_user("alice@example.com")
    await api_on_each.login(alice, strategy=strategy)
    assert (await api_on_each.get("/me")).json()["id"] == str(alice.id)
    cookies = dict(api_on_each.cookies)
    assert (await api_on_each.post("/logout")).status_code == 204
    api_on_each.cookies.update(cookies)
    assert (await api_on_each.get("/me")).status_code == 401


async def test_wrong_password_is_refused(api: Client) -> None:
    await api.create_user("alice@example.com")
    response = await api.post(
        "/login", json={"email": "alice@example.com", "password": "x" + PASSWORD}
    )
    assert response.status_code == 401
    assert response.json()["code"] == "invalid_credentials"
