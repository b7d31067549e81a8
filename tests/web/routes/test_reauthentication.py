"""POST /me/reauthenticate, and leaving."""

from datetime import timedelta
from http.cookies import SimpleCookie
from itertools import pairwise
from typing import Any

import pytest
import sqlalchemy as sa
import time_machine

from authapi import Settings, create_app
from authapi.clock import now
from authapi.storage.models import events
from authapi.testing import PASSWORD, Client, client
from tests.web.answers import input_errors, problem
from tests.web.logins import Headers, sign_in

OTHER = "another horse, another battery"
LATER = timedelta(minutes=6)


async def prove(api: Client, headers: Headers, password: str = PASSWORD) -> Headers:
    """The headers to go on with."""
    body = {"password": password}
    answer = await api.post("/me/reauthenticate", json=body, headers=headers)
    assert (answer.status_code, answer.content) == (204, b"")
    cookie = answer.headers.get("set-cookie")
    api.cookies.clear()
    return headers if cookie is None else {"cookie": cookie.partition(";")[0]}


@pytest.mark.parametrize("strategy", ["session", "jwt"])
async def test_a_login_is_fresh_again(api_on_each: Client, strategy: str) -> None:
    api = api_on_each
    alice = await api.create_user()
    headers = await sign_in(api.services, alice, strategy)
    with time_machine.travel(now() + LATER, tick=True):
        problem(await api.delete("/me", headers=headers), 401, "stale_authentication")
        body = {"password": OTHER}
        refused = await api.post("/me/reauthenticate", json=body, headers=headers)
        problem(refused, 403, "wrong_password")
        problem(await api.delete("/me", headers=headers), 401, "stale_authentication")
        renewed = await prove(api, headers)
        if strategy == "session":
            # Whoever had copied the cookie is out, and does not become fresh along with it.
            assert renewed != headers
            problem(await api.get("/me", headers=headers), 401, "unauthenticated")
        before = (await api.get("/me/identity", headers=renewed)).json()["auth_time"]
        assert before > f"{now() - timedelta(minutes=1):%Y-%m-%dT%H:%M:%S}"
        assert (await api.delete("/me", headers=renewed)).status_code == 204


async def test_only_this_session_is_fresh(api_on_each: Client) -> None:
    api = api_on_each
    alice = await api.create_user()
    one, other = [await sign_in(api.services, alice) for _ in range(2)]
    with time_machine.travel(now() + LATER, tick=True):
        await prove(api, one)
        problem(await api.delete("/me", headers=other), 401, "stale_authentication")


async def test_passwords_are_not_guessed_with_a_session(api: Client) -> None:
    headers = await sign_in(api.services, await api.create_user())
    statuses = [
        (await api.post("/me/reauthenticate", json={"password": f"guess {n}"}, headers=headers))
        for n in range(11)
    ]
    assert [answer.status_code for answer in statuses] == [403] * 10 + [429]


async def test_a_token_is_not_made_fresh(api: Client) -> None:
    headers = await sign_in(api.services, await api.create_user(), "token")
    answer = await api.post("/me/reauthenticate", json={"password": PASSWORD}, headers=headers)
    problem(answer, 401, "unauthenticated")


@pytest.mark.parametrize("what", ["anonymise", "erase"])
async def test_who_leaves_leaves_nothing_of_theirs(database_url: str, what: str) -> None:
    settings = Settings(database_url=database_url, deleted_events=what)  # type: ignore[arg-type]
    async with client(create_app(settings)) as api:
        api.headers["user-agent"] = "alices-browser/1"
        email = "alice@example.com"
        alice, bob = await api.create_user(email), await api.create_user()
        for user in (alice, bob):
            await api.post("/login", json={"email": user.email, "password": "wrong"})
            await api.login(user)
        api.cookies.clear()
        await api.login(alice)
        await api.post("/password/forgot", json={"email": email})
        assert await api.outbox()
        assert (await api.delete("/me")).status_code == 204
        async with api.services.database.engine.connect() as connection:
            rows = [row._asdict() for row in await connection.execute(sa.select(events))]
        hers = [row for row in rows if row["user_id"] == alice.id]
        kinds = [row["type"] for row in sorted(hers, key=lambda row: row["id"])]
        if what == "erase":
            assert kinds == ["account_deleted"]
        else:
            assert kinds[0] == "account_registered"
            assert {"login", "login_refused", "account_deleted"} <= set(kinds)
        for row in hers:
            assert (row["ip"], row["user_agent"], row["network"]) == (None, None, "unknown")
        his = [row for row in rows if row["user_id"] == bob.id and row["type"] == "login"]
        assert his[0]["user_agent"] == "alices-browser/1"
        problem(await api.get("/me"), 401, "unauthenticated")
        # The address is free, and whoever has it now is somebody else.
        answer = await api.post("/register", json={"email": email, "password": PASSWORD})
        assert answer.status_code == 201
        assert answer.json()["id"] != str(alice.id)


async def test_the_language_is_one_of_the_settings(api_on_each: Client) -> None:
    api = api_on_each
    headers = await sign_in(api.services, await api.create_user(name="Alice"))
    changed = await api.patch("/me", json={"locale": "ko"}, headers=headers)
    assert (changed.json()["locale"], changed.json()["name"]) == ("ko", "Alice")
    assert (await api.get("/me", headers=headers)).headers["etag"] == changed.headers["etag"]
    refused = await api.patch("/me", json={"locale": "tlh"}, headers=headers)
    assert input_errors(refused) == [(("body", "locale"), "unknown_locale")]
    back = await api.patch("/me", json={"locale": None}, headers=headers)
    assert back.json()["locale"] is None
    body = {"email": "x@example.com", "password": PASSWORD, "locale": "tlh"}
    problem(await api.post("/register", json=body), 422, "validation_failed")


@pytest.mark.parametrize("path", ["/me/reauthenticate", "/me/password"])
@pytest.mark.parametrize("remember", [True, False])
async def test_a_cookie_is_kept_for_as_long_as_the_one_before(
    database_url: str, path: str, remember: bool
) -> None:
    # Both kinds of login last equally long, so what is told apart is what was asked for.
    days: dict[str, Any] = {
        f"{kind}_{end}": timedelta(days=3 if end == "absolute" else 2)
        for kind in ("session", "remember")
        for end in ("absolute", "idle")
    }
    settings = Settings(database_url=database_url, **days)  # type: ignore[arg-type]
    passwords = [PASSWORD, OTHER, PASSWORD]
    async with client(create_app(settings)) as api:
        alice = await api.create_user()
        body = {"email": alice.email, "password": PASSWORD, "remember": remember}
        answer = await api.post("/login", json=body)
        cookie = SimpleCookie(answer.headers["set-cookie"])["authapi"]
        with time_machine.travel(now() + timedelta(days=1), tick=True):
            for current, new in pairwise(passwords):
                api.cookies.clear()
                headers = {"cookie": f"authapi={cookie.value}"}
                changed = {"current_password": current, "new_password": new}
                proof = {"password": PASSWORD}
                answer = await api.post(
                    path, json=changed if path == "/me/password" else proof, headers=headers
                )
                assert answer.status_code == 204
                cookie = SimpleCookie(answer.headers["set-cookie"])["authapi"]
                if not remember:
                    assert cookie["max-age"] == ""
                    continue
                # The session ends when it would have ended, and the cookie with it.
                assert 2 * 86400 - 60 < int(cookie["max-age"]) <= 2 * 86400
        api.cookies.clear()
        headers = {"cookie": f"authapi={cookie.value}"}
        with time_machine.travel(now() + timedelta(days=2.5)):
            assert (await api.get("/me", headers=headers)).status_code == 200
        with time_machine.travel(now() + timedelta(days=3.1)):
            assert (await api.get("/me", headers=headers)).status_code == 401


async def test_a_cookie_renewed_at_once_is_kept_as_long_as_at_the_login(api: Client) -> None:
    alice = await api.create_user()
    with time_machine.travel(now(), tick=False):
        body = {"email": alice.email, "password": PASSWORD, "remember": True}
        first = SimpleCookie((await api.post("/login", json=body)).headers["set-cookie"])
        renewed = await api.post("/me/reauthenticate", json={"password": PASSWORD})
    cookie = SimpleCookie(renewed.headers["set-cookie"])["authapi"]
    assert cookie["max-age"] == first["authapi"]["max-age"] != ""
    assert cookie["httponly"]
    assert (cookie["path"], cookie["samesite"]) == ("/", "Lax")
