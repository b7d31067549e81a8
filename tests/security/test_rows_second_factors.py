"""Known vulnerabilities of other products: second factors."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pyotp
import pytest

from authapi.clock import now
from authapi.testing import PASSWORD, Client
from tests.clocks import travel_to
from tests.second_factors import insert_passkey
from tests.security.attack import basic, comparable, cookie
from tests.security.second_factors import (
    STRATEGIES,
    alice_of,
    application,
    begin,
    credential,
    finish,
    sessions,
)
from tests.soft_authenticator import SoftAuthenticator
from tests.web.logins import sign_in
from tests.web.mailbox import secret_in
from tests.web.passkeys import options
from tests.web.responses import problem

NEW = "another horse battery staple"
PARALLEL = 20


@pytest.fixture
async def api(database_url: str) -> AsyncIterator[Client]:
    async with application(database_url) as found:
        yield found


async def test_row_24_a_logout_ends_the_login_that_waits(api: Client) -> None:
    """Also the logout of an earlier login in the same browser."""
    alice = await alice_of(api)
    earlier = (await sign_in(api.services, alice.user))["cookie"]
    asked = await begin(api, "session")
    waiting = asked.cookies["authapi-login"]
    api.cookies.clear()
    left = await api.post("/logout", headers={"cookie": f"{earlier}; authapi-login={waiting}"})
    assert left.status_code == 204
    assert await sessions(api, alice) == 0
    for code in ({"code": alice.code()}, {"recovery_code": alice.codes[0]}):
        headers = {"cookie": f"authapi-login={waiting}"}
        refused = await api.post("/login/second-factor", json=code, headers=headers)
        problem(refused, 401, "login_expired")
    assert await sessions(api, alice) == 0


async def test_row_27_refresh_proves_what_its_login_has_proved(api: Client) -> None:
    """A refresh token of the time before the first factor ends, that of this session too."""
    user = await api.create_user("bob@example.com")
    await api.services.accounts.email_changes.confirm_for_operator(user.id)
    body = {"email": "bob@example.com", "password": PASSWORD, "strategy": "jwt"}
    logins = [(await api.post("/login", json=body)).json() for _ in range(2)]
    held = {"authorization": f"Bearer {logins[0]['access_token']}"}
    with travel_to(now()) as clock:
        app = pyotp.TOTP((await api.post("/me/factors/totp", headers=held)).json()["secret"])
        code = {"code": app.at(now())}
        confirmed = await api.post("/me/factors/totp/confirm", json=code, headers=held)
        assert confirmed.status_code == 200
        for login in logins:
            form = {"grant_type": "refresh_token", "refresh_token": login["refresh_token"]}
            refused = await api.post("/token", data=form)
            assert (refused.status_code, refused.json()["error"]) == (400, "invalid_grant")

        clock.shift(30)
        asked = await api.post("/login", json=body)
        done = (await finish(api, asked, code=app.at(now()))).json()
        form = {"grant_type": "refresh_token", "refresh_token": done["refresh_token"]}
        renewed = (await api.post("/token", data=form)).json()
        held = {"authorization": f"Bearer {renewed['access_token']}"}
        identity = (await api.get("/me/identity", headers=held)).json()
        assert identity["amr"] == ["pwd", "otp", "mfa"]
        clock.shift(31)  # after the grace period, a second use is a theft
        assert (await api.post("/token", data=form)).status_code == 400
        assert (await api.get("/me", headers=held)).status_code == 401


async def test_row_28_a_ticket_is_redeemed_once(api: Client) -> None:
    alice = await alice_of(api)
    asked = await begin(api)
    calls = [finish(api, asked, code=alice.code())]
    calls += [finish(api, asked, recovery_code=code) for code in alice.codes[:3]]
    answers = await asyncio.gather(*calls)
    assert [answer.status_code for answer in answers].count(200) == 1
    assert await sessions(api, alice) == 1
    problem(await finish(api, asked, recovery_code=alice.codes[9]), 401, "login_expired")


async def test_row_41_no_way_in_forgets_the_second_factor(api: Client) -> None:
    alice = await alice_of(api)
    for strategy in STRATEGIES:
        asked = await begin(api, strategy)
        assert (asked.status_code, asked.json()["code"]) == (401, "second_factor_required")
        assert "access_token" not in asked.json()
        api.cookies.clear()
    right, wrong = [
        await api.get("/me", headers=basic("alice@example.com", password))
        for password in (PASSWORD, NEW)
    ]
    assert right.status_code == 401
    assert comparable(right) == comparable(wrong)
    forms = [
        {"grant_type": "password", "username": "alice@example.com", "password": password}
        for password in (PASSWORD, NEW)
    ]
    right, wrong = [await api.post("/token", data=form) for form in forms]
    assert right.status_code == 400
    assert comparable(right) == comparable(wrong)
    forgot = await api.post("/password/forgot", json={"email": "alice@example.com"})
    assert forgot.status_code == 202
    token = await secret_in(api.services, "reset", "alice@example.com")
    reset = await api.post("/password/reset", json={"token": token, "new_password": NEW})
    assert (reset.status_code, reset.headers.get("set-cookie")) == (204, None)
    assert (await begin(api, password=NEW)).json()["code"] == "second_factor_required"
    assert await sessions(api, alice) == 0


async def test_row_45_length_is_checked_before_a_factor_is(
    api: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, passkey, work = await alice_of(api), SoftAuthenticator(), list[str]()
    await insert_passkey(api.services, alice.user, passkey)
    for name in (
        "authapi.services.factors.webauthn.assertions.read_client_data",
        "authapi.services.factors.webauthn.registration.read_client_data",
        "authapi.services.factors.proofs.hash_recovery_code",
        "authapi.services.factors.proofs.matching_steps",
    ):
        monkeypatch.setattr(name, lambda *_, _name=name: work.append(_name))
    held = await sign_in(api.services, alice.user, "jwt")
    ticket = {"ticket": (await begin(api)).json()["ticket"]}
    asked = await options(api, "/login/second-factor/options", {}, **ticket)
    for length, status in ((30_000, 422), (1_000_000, 413)):
        found, text = passkey.get(asked), "A" * length
        for name in ("clientDataJSON", "authenticatorData", "signature"):
            long = {**found, "response": {**found["response"], name: text}}
            for path, body in (
                ("/login/passkey", {"credential": long}),
                ("/login/second-factor", {**ticket, "passkey": long}),
                ("/me/reauthenticate", {"passkey": long}),
            ):
                answer = await api.post(path, json=body, headers=held)
                assert answer.status_code == status, (path, name)
        for code in ({"code": text}, {"recovery_code": text}):
            for path in ("/login/second-factor", "/me/reauthenticate"):
                ticket_too = ticket if path == "/login/second-factor" else {}
                answer = await api.post(path, json={**ticket_too, **code}, headers=held)
                assert answer.status_code == status, (path, code)
    assert work == []


async def test_row_46_a_code_and_a_ticket_work_once(api: Client) -> None:
    alice = await alice_of(api)
    with travel_to(now()) as clock:
        code = alice.code()
        tickets = [await begin(api) for _ in range(2)]
        assert (await finish(api, tickets[0], code=code)).status_code == 200
        problem(await finish(api, tickets[1], code=code), 401, "second_factor_refused")
        # The code that the app shows next is another one, and works for that ticket.
        clock.shift(30)
        assert (await finish(api, tickets[1], code=alice.code())).status_code == 200
        asked = await begin(api)
        answers = await asyncio.gather(
            *(finish(api, asked, recovery_code=alice.codes[0]) for _ in range(PARALLEL))
        )
        assert [answer.status_code for answer in answers].count(200) == 1
        assert await sessions(api, alice) == 3
        expired = await begin(api)
        clock.shift(300)
        problem(await finish(api, expired, code=alice.code()), 401, "login_expired")


async def test_row_46_a_challenge_works_once(api: Client) -> None:
    alice, passkey = await alice_of(api), SoftAuthenticator()
    await insert_passkey(api.services, alice.user, passkey)
    asked = await options(api, "/login/passkey/options", {})
    browser = {"cookie": f"authapi-login={api.cookies['authapi-login']}"}
    api.cookies.clear()
    bodies = [{"credential": passkey.get(asked), "strategy": "token"} for _ in range(PARALLEL)]
    answers = await asyncio.gather(
        *(api.post("/login/passkey", json=body, headers=browser) for body in bodies)
    )
    refused = [answer for answer in answers if answer.status_code != 200]
    assert len(refused) == PARALLEL - 1
    for answer in refused:
        problem(answer, 401, "passkey_refused")
    assert await sessions(api, alice) == 1

    held = await sign_in(api.services, alice.user, "jwt")
    asked = await options(api, "/me/reauthenticate/options", held)
    proofs = [{"passkey": passkey.get(asked)} for _ in range(PARALLEL)]
    answers = await asyncio.gather(
        *(api.post("/me/reauthenticate", json=proof, headers=held) for proof in proofs)
    )
    assert [answer.status_code for answer in answers].count(204) == 1
    # The others find the challenge used, or their login proved again meanwhile.
    assert {answer.status_code for answer in answers} <= {204, 401, 403}

    waiting = await begin(api)
    ticket = {"ticket": waiting.json()["ticket"]}
    asked = await options(api, "/login/second-factor/options", {}, **ticket)
    steps = [{**ticket, "passkey": passkey.get(asked)} for _ in range(PARALLEL)]
    answers = await asyncio.gather(*(api.post("/login/second-factor", json=step) for step in steps))
    assert [answer.status_code for answer in answers].count(200) == 1
    assert {answer.status_code for answer in answers} == {200, 401}
    assert await sessions(api, alice) == 3


async def test_row_46_an_expired_challenge_proves_nothing(database_url: str) -> None:
    async with application(database_url, login_ticket_lifetime="10 minutes") as api:
        alice, passkey = await alice_of(api), SoftAuthenticator()
        await insert_passkey(api.services, alice.user, passkey)
        with travel_to(now()) as clock:
            asked = await options(api, "/login/passkey/options", {})
            login = {"credential": passkey.get(asked), "strategy": "token"}
            browser = {"cookie": f"authapi-login={api.cookies['authapi-login']}"}
            api.cookies.clear()
            waiting = await begin(api)
            ticket = {"ticket": waiting.json()["ticket"]}
            asked = await options(api, "/login/second-factor/options", {}, **ticket)
            step = {**ticket, "passkey": passkey.get(asked)}
            clock.shift(300)
            late = await api.post("/login/passkey", json=login, headers=browser)
            problem(late, 401, "passkey_refused")
            late = await api.post("/login/second-factor", json=step)
            problem(late, 401, "second_factor_refused")
            assert await sessions(api, alice) == 0
            # The login still waits: another challenge completes it.
            asked = await options(api, "/login/second-factor/options", {}, **ticket)
            step = {**ticket, "passkey": passkey.get(asked)}
            assert (await api.post("/login/second-factor", json=step)).status_code == 200


async def test_row_47_one_limit_counts_the_codes_of_every_route(database_url: str) -> None:
    limits = {"limit_second_factor": "2/hour", "limit_second_factor_known": "2/hour"}
    async with application(database_url, **limits) as api:
        alice = await alice_of(api)
        held = await credential(api, await finish(api, await begin(api), code=alice.code()))
        wrong = {"code": alice.wrong_code()}
        assert (await finish(api, await begin(api), **wrong)).status_code == 401
        session = await sign_in(api.services, alice.user)
        refused = await api.post("/me/reauthenticate", json=wrong, headers=session)
        problem(refused, 403, "wrong_code")
        right = {"code": alice.code(steps=1)}
        for strategy in STRATEGIES:
            over = await finish(api, await begin(api, strategy), **right)
            problem(over, 429, "too_many_attempts")
            api.cookies.clear()
        over = await api.post("/me/reauthenticate", json=right, headers=session)
        problem(over, 429, "too_many_attempts")
        assert (await api.get("/me", headers=held)).status_code == 200


async def test_temps_326_what_waits_for_a_second_factor_is_no_session(api: Client) -> None:
    """A row of a login under way was accepted as a session, by administrators' routes too."""
    alice = await alice_of(api)
    routes = ("/me", "/me/sessions", "/me/factors", "/me/events", "/admin/users")
    for strategy in STRATEGIES:
        asked = await begin(api, strategy)
        secret = asked.json().get("ticket") or asked.cookies["authapi-login"]
        api.cookies.clear()
        for headers in (
            cookie(secret),
            cookie(secret, "authapi-login"),
            {b"authorization": f"Bearer {secret}".encode()},
            {b"authorization": f"Bearer aat_{secret}".encode()},
        ):
            answers: list[httpx.Response] = [
                await api.get(route, headers=headers) for route in routes
            ]
            assert {answer.status_code for answer in answers} == {401}
    assert await sessions(api, alice) == 0
