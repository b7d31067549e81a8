"""A passkey as the second factor of a login, and of a caller who proves one again."""

from datetime import timedelta
from typing import Any

import httpx
import pytest
import time_machine

from authapi import create_app
from authapi.clock import now
from authapi.domain.events import EventType
from authapi.domain.user import User
from authapi.testing import PASSWORD, Client, client
from tests.conftest import SettingsFactory
from tests.second_factors import add_second_factors
from tests.soft_authenticator import (
    BACKED_UP,
    ELIGIBLE,
    PRESENT,
    SoftAuthenticator,
)
from tests.web.logins import Headers, sign_in
from tests.web.passkeys import add_passkey, log_in, options, renewed
from tests.web.responses import input_errors, problem

STRATEGIES = ["session", "token", "jwt"]
UNVERIFIED = PRESENT | ELIGIBLE | BACKED_UP
STEP_UP = "/me/reauthenticate/options"


async def begin(api: Client, strategy: str = "token") -> httpx.Response:
    body = {"email": "alice@example.com", "password": PASSWORD, "strategy": strategy}
    answer = await api.post("/login", json=body)
    assert answer.json()["code"] == "second_factor_required"
    return answer


def ticket_of(answer: httpx.Response) -> dict[str, str]:
    return {"ticket": answer.json()["ticket"]} if "ticket" in answer.json() else {}


async def asked_of(api: Client, answer: httpx.Response) -> dict[str, Any]:
    return await options(api, "/login/second-factor/options", {}, **ticket_of(answer))


async def finish(api: Client, answer: httpx.Response, passkey: SoftAuthenticator) -> httpx.Response:
    found = passkey.get(await asked_of(api, answer))
    body = {**ticket_of(answer), "passkey": found}
    return await api.post("/login/second-factor", json=body)


async def alice_with(api: Client, passkey: SoftAuthenticator) -> tuple[User, Headers]:
    alice = await api.create_user("alice@example.com")
    _, headers = await add_passkey(api, alice, passkey)
    api.cookies.clear()
    return alice, headers


async def refusals(api: Client, user: User) -> list[dict[str, Any]]:
    events = await api.services.audit.page(user.id, before=None, limit=20)
    return [dict(event.detail) for event in events if event.type is EventType.PASSKEY_REFUSED]


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_a_password_and_a_passkey(api_on_each: Client, strategy: str) -> None:
    api, passkey = api_on_each, SoftAuthenticator()
    await alice_with(api, passkey)
    answer = await begin(api, strategy)
    assert answer.json()["methods"] == ["passkey", "recovery"]
    passkey.flags = UNVERIFIED  # possession is enough after a password
    asked = await asked_of(api, answer)
    assert asked["userVerification"] == "discouraged"
    assert [item["id"] for item in asked["allowCredentials"]] == [passkey.id]
    done = await finish(api, answer, passkey)
    assert done.status_code == 200, done.text
    if strategy != "session":
        api.headers["Authorization"] = f"Bearer {done.json()['access_token']}"
    identity = (await api.get("/me/identity")).json()
    assert (identity["amr"], identity["acr"]) == (["pwd", "pop", "mfa"], "phr")


async def test_authenticators_without_handle_are_second_factors(api: Client) -> None:
    passkey = SoftAuthenticator()
    await alice_with(api, passkey)
    passkey.handle = None
    assert (await finish(api, await begin(api), passkey)).status_code == 200


async def test_all_methods_of_an_account_are_named(api: Client) -> None:
    alice, _ = await alice_with(api, SoftAuthenticator())
    await add_second_factors(api.services, alice)
    assert (await begin(api)).json()["methods"] == ["totp", "passkey", "recovery"]


async def test_unusable_passkeys_are_not_named(make_settings: SettingsFactory) -> None:
    settings = make_settings()
    async with client(create_app(settings)) as api:
        await alice_with(api, SoftAuthenticator())
    async with client(create_app(make_settings(passkeys="off"))) as api:
        answer = await begin(api)
        assert answer.json()["methods"] == ["recovery"]
        path = "/login/second-factor/options"
        refused = await api.post(path, json=ticket_of(answer))
        problem(refused, 403, "passkeys_unavailable")
    async with client(create_app(make_settings(passkeys="second_factor"))) as api:
        assert (await begin(api)).json()["methods"] == ["passkey", "recovery"]


async def test_the_passkey_of_another_account_is_no_second_factor(api_on_each: Client) -> None:
    api, passkey, stranger = api_on_each, SoftAuthenticator(), SoftAuthenticator()
    alice, _ = await alice_with(api, passkey)
    await add_passkey(api, await api.create_user("bob@example.com"), stranger)
    answer = await begin(api)
    asked = await asked_of(api, answer)
    found = stranger.get({**asked, "allowCredentials": []})
    body = {**ticket_of(answer), "passkey": found}
    refused = await api.post("/login/second-factor", json=body)
    assert problem(refused, 401, "second_factor_refused")["attempts_left"] == 4
    assert await refusals(api, alice) == [{"reason": "user"}]


async def test_challenges_of_other_logins_and_purposes_are_refused(api: Client) -> None:
    passkey = SoftAuthenticator()
    _, headers = await alice_with(api, passkey)
    one, two = await begin(api), await begin(api)
    challenges = [
        (await asked_of(api, two))["challenge"],
        (await options(api, "/login/passkey/options", {}))["challenge"],
        (await options(api, STEP_UP, headers))["challenge"],
        (await options(api, "/me/factors/passkeys/options", headers))["challenge"],
    ]
    asked = await asked_of(api, one)
    for left, challenge in zip((4, 3, 2, 1), challenges, strict=True):
        body = {**ticket_of(one), "passkey": passkey.get({**asked, "challenge": challenge})}
        refused = await api.post("/login/second-factor", json=body)
        assert problem(refused, 401, "second_factor_refused")["attempts_left"] == left
    assert (await finish(api, one, passkey)).status_code == 200
    problem(await finish_again(api, one, asked, passkey), 401, "login_expired")


async def finish_again(
    api: Client, answer: httpx.Response, asked: dict[str, Any], passkey: SoftAuthenticator
) -> httpx.Response:
    body = {**ticket_of(answer), "passkey": passkey.get(asked)}
    return await api.post("/login/second-factor", json=body)


async def test_five_attempts_and_five_minutes(api: Client) -> None:
    passkey = SoftAuthenticator()
    await alice_with(api, passkey)
    answer = await begin(api)
    asked = await asked_of(api, answer)
    passkey.origin = "https://evil.example"
    for _ in range(5):
        refused = await finish_again(api, answer, asked, passkey)
        problem(refused, 401, "second_factor_refused")
    passkey.origin = "http://localhost:8000"
    problem(await finish_again(api, answer, asked, passkey), 401, "login_expired")
    path = "/login/second-factor/options"
    problem(await api.post(path, json=ticket_of(answer)), 401, "login_expired")
    answer = await begin(api)
    with time_machine.travel(now() + timedelta(minutes=5), tick=False):
        problem(await api.post(path, json=ticket_of(answer)), 401, "login_expired")
    problem(await api.post(path, json={}), 401, "login_expired")


async def test_a_passkey_opens_a_closed_app(api: Client) -> None:
    passkey = SoftAuthenticator()
    alice, _ = await alice_with(api, passkey)
    await add_second_factors(api.services, alice)
    async with api.services.database.transaction() as store:
        factor = await store.totp_factors.find(alice.id)
        assert factor is not None
        await store.totp_factors.count_attempt(factor.id, limit=100)
    assert (await finish(api, await begin(api), passkey)).status_code == 200
    async with api.services.database.read() as store:
        factor = await store.totp_factors.find(alice.id)
    assert factor is not None
    assert factor.failures == 0


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"code": "123456", "recovery_code": "x"},
        {"code": "123456", "passkey": "given"},
        {"code": "123456", "recovery_code": "x", "passkey": "given"},
    ],
    ids=str,
)
async def test_exactly_one_second_factor_is_sent(api: Client, body: dict[str, Any]) -> None:
    if "passkey" in body:
        fake = {"challenge": "AAAA", "rpId": "localhost", "allowCredentials": []}
        body = {**body, "passkey": SoftAuthenticator(handle=b"h").get(fake)}
    refused = await api.post("/login/second-factor", json=body)
    assert [code for _, code in input_errors(refused)] == ["one_code"]


@pytest.mark.parametrize("strategy", ["session", "jwt"])
async def test_a_step_up_by_passkey_is_a_recent_strong_login(
    api_on_each: Client, strategy: str
) -> None:
    api, passkey = api_on_each, SoftAuthenticator()
    alice, _ = await alice_with(api, passkey)
    headers = await sign_in(api.services, alice, strategy)
    problem(await api.delete("/me", headers=headers), 401, "insufficient_authentication")
    with time_machine.travel(now() + timedelta(minutes=6), tick=True):
        asked = await options(api, STEP_UP, headers)
        assert asked["userVerification"] == "required"
        assert [item["id"] for item in asked["allowCredentials"]] == [passkey.id]
        body = {"passkey": passkey.get(asked)}
        done = await api.post("/me/reauthenticate", json=body, headers=headers)
        assert (done.status_code, done.content) == (204, b"")
        assert ("set-cookie" in done.headers) is (strategy == "session")
        old, headers = headers, renewed(done, headers)
        api.cookies.clear()
        if strategy == "session":
            problem(await api.get("/me", headers=old), 401, "unauthenticated")
        identity = (await api.get("/me/identity", headers=headers)).json()
        assert (identity["amr"], identity["acr"]) == (["pwd", "pop", "user", "mfa"], "phr")
        events = await api.services.audit.page(alice.id, before=None, limit=9)
        [event] = [event for event in events if event.type is EventType.REAUTHENTICATED]
        assert event.detail["amr"] == ["pop", "user"]
        # Its challenge is used up.
        again = await api.post("/me/reauthenticate", json=body, headers=headers)
        problem(again, 403, "wrong_passkey")
        assert (await api.delete("/me", headers=headers)).status_code == 204


async def test_a_step_up_needs_the_user(api: Client) -> None:
    passkey = SoftAuthenticator(flags=UNVERIFIED | 4)
    alice, headers = await alice_with(api, passkey)
    asked = await options(api, STEP_UP, headers)
    passkey.flags = UNVERIFIED
    body = {"passkey": passkey.get(asked)}
    problem(await api.post("/me/reauthenticate", json=body, headers=headers), 403, "wrong_passkey")
    passkey.flags |= 4
    other = await sign_in(api.services, alice)
    body = {"passkey": passkey.get(asked)}  # asked of another session
    problem(await api.post("/me/reauthenticate", json=body, headers=other), 403, "wrong_passkey")
    done = await api.post("/me/reauthenticate", json=body, headers=headers)
    assert done.status_code == 204


async def test_a_passkey_is_told_in_the_metrics(make_settings: SettingsFactory) -> None:
    async with client(create_app(make_settings(metrics_path="/metrics"))) as api:
        passkey = SoftAuthenticator()
        await alice_with(api, passkey)
        assert (await log_in(api, passkey)).status_code == 200
        passkey.origin = "https://evil.example"
        assert (await log_in(api, passkey)).status_code == 401
        text = (await api.get("/metrics")).text
    for outcome in ("proved", "refused"):
        line = f'authapi_second_factors_total{{method="passkey",outcome="{outcome}"}} 1.0'
        assert line in text
