"""POST /me/reauthenticate, renewed cookies, and the deletion of an account."""

from datetime import timedelta
from http.cookies import SimpleCookie
from itertools import pairwise
from typing import Any

import pytest
import sqlalchemy as sa
import time_machine

from authapi import Settings, create_app
from authapi.clock import now
from authapi.testing import PASSWORD, Client, client
from tests.tables import events
from tests.web.logins import Headers, sign_in
from tests.web.responses import input_errors, problem

OTHER = "another horse, another battery"
LATER = timedelta(minutes=6)


async def prove(api: Client, headers: Headers, password: str = PASSWORD) -> Headers:
    """Reauthenticate, and return the headers for further requests."""
    body = {"password": password}
    answer = await api.post("/me/reauthenticate", json=body, headers=headers)
    assert (answer.status_code, answer.content) == (204, b"")
    cookie = answer.headers.get("set-cookie")
    api.cookies.clear()
    return headers if cookie is None else {"cookie": cookie.partition(";")[0]}


@pytest.mark.parametrize("strategy", ["session", "jwt"])
async def test_reauthentication_makes_a_login_recent(api_on_each: Client, strategy: str) -> None:
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
            # A stolen copy of the old cookie stops working, so it does not become a recent login.
            assert renewed != headers
            problem(await api.get("/me", headers=headers), 401, "unauthenticated")
        before = (await api.get("/me/identity", headers=renewed)).json()["auth_time"]
        assert before > f"{now() - timedelta(minutes=1):%Y-%m-%dT%H:%M:%S}"
        assert (await api.delete("/me", headers=renewed)).status_code == 204


async def test_only_the_current_session_becomes_recent(api_on_each: Client) -> None:
    api = api_on_each
    alice = await api.create_user()
    one, other = [await sign_in(api.services, alice) for _ in range(2)]
    with time_machine.travel(now() + LATER, tick=True):
        await prove(api, one)
        problem(await api.delete("/me", headers=other), 401, "stale_authentication")


async def test_password_attempts_with_a_session_are_limited(api: Client) -> None:
    headers = await sign_in(api.services, await api.create_user())
    statuses = [
        (await api.post("/me/reauthenticate", json={"password": f"guess {n}"}, headers=headers))
        for n in range(11)
    ]
    assert [answer.status_code for answer in statuses] == [403] * 10 + [429]


async def test_an_opaque_token_cannot_reauthenticate(api: Client) -> None:
    headers = await sign_in(api.services, await api.create_user(), "token")
    answer = await api.post("/me/reauthenticate", json={"password": PASSWORD}, headers=headers)
    problem(answer, 401, "unauthenticated")


@pytest.mark.parametrize("what", ["anonymise", "erase"])
async def test_deletion_anonymises_or_erases_events(database_url: str, what: str) -> None:
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
        # The address is free again, and belongs to a new account.
        answer = await api.post("/register", json={"email": email, "password": PASSWORD})
        assert answer.status_code == 201
        assert answer.json()["id"] != str(alice.id)


async def test_the_locale_must_be_configured(api_on_each: Client) -> None:
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
async def test_a_renewed_cookie_keeps_its_expiry(
    database_url: str, path: str, remember: bool
) -> None:
    # Both kinds of session have the same lifetime, so only `remember` makes a difference.
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
                # The renewal does not extend the session, and the cookie expires with it.
                assert 2 * 86400 - 60 < int(cookie["max-age"]) <= 2 * 86400
        api.cookies.clear()
        headers = {"cookie": f"authapi={cookie.value}"}
        with time_machine.travel(now() + timedelta(days=2.5)):
            assert (await api.get("/me", headers=headers)).status_code == 200
        with time_machine.travel(now() + timedelta(days=3.1)):
            assert (await api.get("/me", headers=headers)).status_code == 401


async def test_a_cookie_renewed_at_once_keeps_its_max_age(api: Client) -> None:
    alice = await api.create_user()
    with time_machine.travel(now(), tick=False):
        body = {"email": alice.email, "password": PASSWORD, "remember": True}
        first = SimpleCookie((await api.post("/login", json=body)).headers["set-cookie"])
        renewed = await api.post("/me/reauthenticate", json={"password": PASSWORD})
    cookie = SimpleCookie(renewed.headers["set-cookie"])["authapi"]
    assert cookie["max-age"] == first["authapi"]["max-age"] != ""
    assert cookie["httponly"]
    assert (cookie["path"], cookie["samesite"]) == ("/", "Lax")
