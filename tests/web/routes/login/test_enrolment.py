"""POST /login where a second factor is required, and /login/enrolment, on both databases."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pyotp
import pytest
from pydantic import SecretStr

from authapi import Settings, create_app
from authapi.clock import now
from authapi.crypto.secrets import new_secret
from authapi.domain.events import Event, EventType
from authapi.domain.identity import Identity
from authapi.domain.user import User
from authapi.services.factors.totp import LIFETIME
from authapi.testing import PASSWORD, Client, client
from tests.clocks import travel_to
from tests.second_factors import add_second_factors
from tests.storage.rows import sql
from tests.web.enrolments import begin, check_kept_secret, sessions, ticket_of, with_mail
from tests.web.logins import STRATEGIES, sign_in
from tests.web.mailbox import client_with_mailbox, mail_kinds
from tests.web.responses import check_headers, problem

NEW_PASSWORD = "another horse another battery"


@pytest.fixture
async def api(database_url: str) -> AsyncIterator[Client]:
    settings = Settings(
        database_url=database_url,  # type: ignore[arg-type]  # pydantic parses it
        mfa="required",
        strategies=("session", "token", "jwt", "basic"),
        password_grant="on",
        mail_url=SecretStr("none:"),
    )
    async with client(create_app(settings)) as found:
        yield found


@pytest.fixture
async def alice(api: Client) -> User:
    return await api.create_user("alice@example.com")


async def enrol(api: Client, answer: httpx.Response) -> dict[str, Any]:
    begun = await api.post("/login/enrolment/totp", json=ticket_of(answer))
    assert begun.status_code == 201
    found: dict[str, Any] = begun.json()
    return found


def code_of(begun: dict[str, Any]) -> str:
    return pyotp.TOTP(begun["secret"]).at(now())


async def confirm(api: Client, answer: httpx.Response, code: str) -> httpx.Response:
    return await api.post("/login/enrolment/totp/confirm", json={**ticket_of(answer), "code": code})


async def events(api: Client, user: User, kind: EventType) -> list[Event]:
    found = await api.services.audit.page(user.id, before=None, limit=50)
    return [event for event in found if event.type is kind]


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_a_login_that_adds_a_factor_gets_the_credential_of_its_strategy(
    api: Client, alice: User, strategy: str
) -> None:
    answer = await begin(api, strategy)
    check_headers(answer)
    assert answer.json()["methods"] == ["totp", "passkey"]
    lasts = datetime.fromisoformat(answer.json()["expires_at"]) - now()
    assert timedelta(minutes=4) < lasts <= timedelta(minutes=5)
    assert ("ticket" in answer.json()) == (strategy != "session")
    assert ("set-cookie" in answer.headers) == (strategy == "session")

    begun = await enrol(api, answer)
    assert begun.keys() == {"id", "secret", "uri", "qr_svg", "expires_at"}
    assert begun["expires_at"] == answer.json()["expires_at"], "the login ends before"
    assert await sessions(api, alice) == 0

    done = await confirm(api, answer, code_of(begun))
    assert done.status_code == 200
    assert "no-store" in done.headers["cache-control"]
    body = done.json()
    assert body["strategy"] == strategy
    assert len(set(body["recovery_codes"])) == 10
    me = await api.services.accounts.profiles.find(alice.id)
    assert me.mfa
    assert datetime.fromisoformat(body["user"]["updated_at"]) == me.updated_at
    if strategy != "session":
        api.headers["Authorization"] = f"Bearer {body['access_token']}"
    identity = (await api.get("/me/identity")).json()
    assert identity["amr"] == ["pwd", "otp", "mfa"]
    assert identity["mfa_at"] is not None
    if strategy != "token":
        shown = (await api.get("/me/factors")).json()
        assert (shown["mfa"], shown["required"]) == (True, True)
        assert shown["recovery_codes"]["left"] == 10
    assert await sessions(api, alice) == 1
    [login] = await events(api, alice, EventType.LOGIN)
    assert login.detail["amr"] == ["pwd", "otp", "mfa"]
    [added] = await events(api, alice, EventType.FACTOR_ADDED)
    assert (added.detail, added.strategy) == ({"method": "totp"}, strategy)


async def test_the_next_login_asks_for_the_factor(api: Client, alice: User) -> None:
    answer = await begin(api)
    begun = await enrol(api, answer)
    code = code_of(begun)
    done = await confirm(api, answer, code)
    body = {"email": "alice@example.com", "password": PASSWORD, "strategy": "token"}
    again = await api.post("/login", json=body)
    assert again.json()["code"] == "second_factor_required"
    ticket = again.json()["ticket"]
    # The code of the confirmation is used up; a recovery code completes the login.
    used = {"ticket": ticket, "code": code}
    refused = await api.post("/login/second-factor", json=used)
    problem(refused, 401, "second_factor_refused")
    proof = {"ticket": ticket, "recovery_code": done.json()["recovery_codes"][0]}
    assert (await api.post("/login/second-factor", json=proof)).status_code == 200


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_a_ticket_is_no_credential_and_proves_no_factor(
    api: Client, alice: User, strategy: str
) -> None:
    answer = await begin(api, strategy)
    begun = await enrol(api, answer)
    proof = {**ticket_of(answer), "code": code_of(begun)}
    refused = await api.post("/login/second-factor", json=proof)
    problem(refused, 401, "login_expired")
    for value in ticket_of(answer).values():
        for headers in ({"authorization": f"Bearer {value}"}, {"cookie": f"authapi={value}"}):
            assert (await api.get("/me/factors", headers=headers)).status_code == 401
    assert (await api.get("/me/factors")).status_code == 401
    assert await sessions(api, alice) == 0


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_a_ticket_for_a_second_factor_adds_none(
    api: Client, alice: User, strategy: str
) -> None:
    await add_second_factors(api.services, alice)
    body = {"email": "alice@example.com", "password": PASSWORD, "strategy": strategy}
    answer = await api.post("/login", json=body)
    assert answer.json()["code"] == "second_factor_required"
    for path, more in (("totp", {}), ("totp/confirm", {"code": "123456"})):
        refused = await api.post(f"/login/enrolment/{path}", json={**ticket_of(answer), **more})
        problem(refused, 401, "login_expired")


async def test_a_login_allows_five_codes(api: Client, alice: User) -> None:
    answer = await begin(api)
    begun = await enrol(api, answer)
    for _ in range(5):
        refused = await confirm(api, answer, "000000" if code_of(begun) != "000000" else "000001")
        problem(refused, 403, "wrong_code")
    # A new secret gives no new attempts, and the right code comes too late.
    begun = await enrol(api, answer)
    problem(await confirm(api, answer, code_of(begun)), 401, "login_expired")
    assert await sessions(api, alice) == 0


async def test_codes_are_those_of_the_last_enrolment_of_this_login(
    api: Client, alice: User
) -> None:
    one, other = await begin(api), await begin(api)
    problem(await confirm(api, one, "123456"), 404, "not_found")
    first = await enrol(api, one)
    await enrol(api, other)
    # The enrolment of the other login has replaced that of this one.
    problem(await confirm(api, one, code_of(first)), 404, "not_found")
    last = await enrol(api, one)
    assert (await confirm(api, one, code_of(last))).status_code == 200
    problem(await confirm(api, other, code_of(last)), 401, "login_expired")


async def test_a_login_ends_after_five_minutes(api: Client, alice: User) -> None:
    with travel_to(now()) as clock:
        answer = await begin(api)
        begun = await enrol(api, answer)
        clock.shift(timedelta(minutes=5, seconds=1))
        assert timedelta(minutes=5) < LIFETIME
        problem(await confirm(api, answer, code_of(begun)), 401, "login_expired")
        refused = await api.post("/login/enrolment/totp", json=ticket_of(answer))
        problem(refused, 401, "login_expired")


@pytest.mark.parametrize("body", [{}, {"ticket": "x"}, {"ticket": new_secret()}])
async def test_without_a_login_nothing_is_added(
    api: Client, alice: User, body: dict[str, str]
) -> None:
    for path, more in (("totp", {}), ("totp/confirm", {"code": "123456"})):
        refused = await api.post(f"/login/enrolment/{path}", json={**body, **more})
        problem(refused, 401, "login_expired")


@pytest.mark.parametrize("moment", ["before the enrolment", "before the code"])
@pytest.mark.parametrize("change", ["password", "deactivation", "factor"])
async def test_a_change_of_the_account_ends_the_login(
    api: Client, alice: User, change: str, moment: str
) -> None:
    answer = await begin(api)
    begun = await enrol(api, answer) if moment == "before the code" else None
    if change == "password":
        await api.services.accounts.passwords.set(alice.id, NEW_PASSWORD)
    elif change == "deactivation":
        administration = api.services.accounts.administration
        await administration.change(alice.id, {"is_active": False})
    else:
        await add_second_factors(api.services, alice)
    if begun is None:
        refused = await api.post("/login/enrolment/totp", json=ticket_of(answer))
    else:
        refused = await confirm(api, answer, code_of(begun))
    problem(refused, 401, "login_expired")
    assert await sessions(api, alice) == 0


async def test_the_cookie_of_another_browser_adds_nothing(api: Client, alice: User) -> None:
    answer = await begin(api, "session")
    begun = await enrol(api, answer)
    api.cookies.clear()
    for cookie in ({}, {"cookie": f"authapi-login={new_secret()}"}):
        body = {"code": code_of(begun)}
        refused = await api.post("/login/enrolment/totp/confirm", json=body, headers=cookie)
        problem(refused, 401, "login_expired")


async def test_pages_of_other_origins_add_nothing(api: Client, alice: User) -> None:
    await begin(api, "session")
    for path, more in (("totp", {}), ("totp/confirm", {"code": "123456"})):
        refused = await api.post(
            f"/login/enrolment/{path}", json=more, headers={"origin": "https://evil.example"}
        )
        problem(refused, 403, "foreign_origin")


async def test_logout_ends_the_login(api: Client, alice: User) -> None:
    await begin(api, "session")
    await api.post("/logout")
    refused = await api.post("/login/enrolment/totp", json={})
    problem(refused, 401, "login_expired")


async def test_basic_and_the_password_grant_refuse_as_for_a_wrong_password(
    api: Client, alice: User
) -> None:
    pairs = [("alice@example.com", password) for password in (PASSWORD, "a wrong password")]
    basic = [await api.get("/me", auth=pair) for pair in pairs]
    grants = [
        await api.post(
            "/token", data={"grant_type": "password", "username": name, "password": password}
        )
        for name, password in pairs
    ]
    for answers, code in ((basic, "unauthenticated"), (grants, "invalid_grant")):
        right, wrong = ({**answer.json(), "request_id": ""} for answer in answers)
        assert right == wrong
        assert right["code"] == code
    assert len(await events(api, alice, EventType.LOGIN_REFUSED)) == 4
    assert await sessions(api, alice) == 0


async def test_other_logins_end_and_personal_tokens_stay(api: Client, alice: User) -> None:
    old = [await sign_in(api.services, alice, strategy) for strategy in STRATEGIES]
    owner = Identity(alice, "cli", None, frozenset(), now(), (), None)
    create = api.services.tokens.personal.create
    _, secret = await create(owner, name="script", scopes=None, lifetime=None)
    answer = await begin(api)
    done = await confirm(api, answer, code_of(await enrol(api, answer)))
    assert done.status_code == 200
    for headers in old:
        assert (await api.get("/me/factors", headers=headers)).status_code == 401
    assert await sessions(api, alice) == 1
    script = {"authorization": f"Bearer {secret}"}
    assert (await api.get("/me", headers=script)).status_code == 200


async def test_no_secret_is_logged(
    api: Client, alice: User, caplog: pytest.LogCaptureFixture
) -> None:
    answer = await begin(api)
    begun = await enrol(api, answer)
    done = await confirm(api, answer, code_of(begun))
    secrets = {answer.json()["ticket"], begun["secret"], *done.json()["recovery_codes"]}
    await check_kept_secret(api, alice, secrets, caplog)


async def test_where_mail_is_sent_the_address_must_be_confirmed(
    database_url: str, tmp_path: Path
) -> None:
    async with client_with_mailbox(with_mail(database_url, tmp_path)) as api:
        alice = await api.create_user("alice@example.com")
        answer = await begin(api)
        refused = await api.post("/login/enrolment/totp", json=ticket_of(answer))
        problem(refused, 403, "email_not_confirmed")
        sql(database_url, "UPDATE authapi_users SET email_confirmed_at = created_at")
        begun = await enrol(api, answer)
        assert (await confirm(api, answer, code_of(begun))).status_code == 200
        assert "factor_added" in await mail_kinds(api.services, alice.email)
