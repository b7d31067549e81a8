"""/login/enrolment/passkey: a login adds the passkey that its account must have."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from authapi import Settings, create_app
from authapi.clock import now
from authapi.crypto.secrets import new_secret
from authapi.domain.events import Event, EventType
from authapi.domain.identity import Identity
from authapi.domain.user import User
from authapi.testing import PASSWORD, Client, client
from tests.clocks import travel_to
from tests.conftest import SettingsFactory
from tests.second_factors import add_second_factors, insert_passkey
from tests.soft_authenticator import VERIFIED, SoftAuthenticator
from tests.storage.rows import sql
from tests.web.enrolments import begin, check_kept_secret, sessions, ticket_of, with_mail
from tests.web.logins import STRATEGIES, sign_in
from tests.web.mailbox import client_with_mailbox, mail_kinds
from tests.web.passkeys import log_in, options
from tests.web.responses import check_headers, problem

PATH = "/login/enrolment/passkey"
NAME = "My phone"


@pytest.fixture
async def api(database_url: str) -> AsyncIterator[Client]:
    settings = Settings(
        database_url=database_url,  # type: ignore[arg-type]  # pydantic parses it
        mfa="required",
        mail_url=SecretStr("none:"),
    )
    async with client(create_app(settings)) as found:
        yield found


@pytest.fixture
async def alice(api: Client) -> User:
    return await api.create_user("alice@example.com")


async def asked_of(api: Client, answer: httpx.Response) -> dict[str, Any]:
    return await options(api, f"{PATH}/options", {}, **ticket_of(answer))


async def add(
    api: Client, answer: httpx.Response, passkey: SoftAuthenticator, asked: dict[str, Any]
) -> httpx.Response:
    body = {**ticket_of(answer), "credential": passkey.create(asked), "name": NAME}
    return await api.post(PATH, json=body)


async def passkeys(api: Client, user: User) -> int:
    return len((await api.services.factors.changes.overview(user)).passkeys)


async def events(api: Client, user: User, kind: EventType) -> list[Event]:
    found = await api.services.audit.page(user.id, before=None, limit=50)
    return [event for event in found if event.type is kind]


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_a_login_that_adds_a_passkey_gets_the_credential_of_its_strategy(
    api: Client, alice: User, strategy: str
) -> None:
    answer, passkey = await begin(api, strategy), SoftAuthenticator()
    assert answer.json()["methods"] == ["totp", "passkey"]
    shown = await api.post(f"{PATH}/options", json=ticket_of(answer))
    check_headers(shown)
    asked = shown.json()
    assert (asked["rp"]["id"], asked["user"]["name"]) == ("localhost", "alice@example.com")
    assert asked["authenticatorSelection"]["userVerification"] == "required"
    assert await sessions(api, alice) == 0

    done = await add(api, answer, passkey, asked)
    assert done.status_code == 200, done.text
    check_headers(done)
    assert "no-store" in done.headers["cache-control"]
    body = done.json()
    assert body["strategy"] == strategy
    assert len(set(body["recovery_codes"])) == 10
    assert (await api.services.accounts.profiles.find(alice.id)).mfa
    if strategy != "session":
        api.headers["Authorization"] = f"Bearer {body['access_token']}"
    identity = (await api.get("/me/identity")).json()
    assert (identity["amr"], identity["acr"]) == (["pwd", "pop", "mfa"], "phr")
    assert identity["mfa_at"] is not None
    if strategy != "token":
        found = (await api.get("/me/factors")).json()
        assert (found["mfa"], found["totp"]) == (True, None)
        [added] = found["passkeys"]
        assert (added["name"], added["credential_id"]) == (NAME, passkey.id)
        assert found["recovery_codes"]["left"] == 10
    assert await sessions(api, alice) == 1
    [login] = await events(api, alice, EventType.LOGIN)
    assert login.detail["amr"] == ["pwd", "pop", "mfa"]
    [event] = await events(api, alice, EventType.FACTOR_ADDED)
    assert (event.detail, event.strategy) == ({"method": "passkey"}, strategy)
    # The next login is by the passkey alone, or by the password and the passkey.
    api.headers.pop("Authorization", None)
    assert (await log_in(api, passkey)).status_code == 200
    again = {"email": "alice@example.com", "password": PASSWORD, "strategy": "token"}
    asked_for = (await api.post("/login", json=again)).json()
    assert (asked_for["code"], asked_for["methods"]) == (
        "second_factor_required",
        ["passkey", "recovery"],
    )


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_a_ticket_for_a_second_factor_adds_no_passkey(
    api: Client, alice: User, strategy: str
) -> None:
    other = await begin(api, strategy)
    asked = await asked_of(api, other)
    await add_second_factors(api.services, alice)
    body = {"email": "alice@example.com", "password": PASSWORD, "strategy": strategy}
    answer = await api.post("/login", json=body)
    assert answer.json()["code"] == "second_factor_required"
    refused = await api.post(f"{PATH}/options", json=ticket_of(answer))
    problem(refused, 401, "login_expired")
    problem(await add(api, answer, SoftAuthenticator(), asked), 401, "login_expired")
    assert await passkeys(api, alice) == 0


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_the_ticket_proves_no_second_factor(api: Client, alice: User, strategy: str) -> None:
    answer, passkey = await begin(api, strategy), SoftAuthenticator()
    asked = await asked_of(api, answer)
    passkey.create(asked)
    refused = await api.post("/login/second-factor/options", json=ticket_of(answer))
    problem(refused, 401, "login_expired")
    request = {"challenge": asked["challenge"], "rpId": "localhost", "allowCredentials": []}
    proof = {**ticket_of(answer), "passkey": passkey.get(request)}
    problem(await api.post("/login/second-factor", json=proof), 401, "login_expired")
    assert await sessions(api, alice) == 0


async def test_challenges_of_other_logins_and_purposes_are_refused(
    api: Client, alice: User
) -> None:
    one, two = await begin(api), await begin(api)
    headers = await sign_in(api.services, alice)
    asked = await asked_of(api, one)
    challenges = [
        (await asked_of(api, two))["challenge"],
        (await options(api, "/login/passkey/options", {}))["challenge"],
        (await options(api, "/me/factors/passkeys/options", headers))["challenge"],
        "AAAA",
    ]
    for challenge in challenges:
        refused = await add(api, one, SoftAuthenticator(), {**asked, "challenge": challenge})
        problem(refused, 403, "wrong_passkey")
    assert (await add(api, one, SoftAuthenticator(), asked)).status_code == 200
    # Neither does the challenge of this login add a passkey in a session.
    bob = await api.create_user("bob@example.com")
    answer = await begin(api, email=bob.email)
    created = {"credential": SoftAuthenticator().create(await asked_of(api, answer)), "name": NAME}
    headers = await sign_in(api.services, bob)
    refused = await api.post("/me/factors/passkeys", json=created, headers=headers)
    problem(refused, 403, "wrong_passkey")


async def test_a_login_allows_five_attempts(api: Client, alice: User) -> None:
    answer = await begin(api)
    asked = await asked_of(api, answer)
    for _ in range(5):
        evil = SoftAuthenticator(origin="https://evil.example")
        problem(await add(api, answer, evil, asked), 403, "wrong_passkey")
    problem(await add(api, answer, SoftAuthenticator(), asked), 401, "login_expired")
    refused = await api.post(f"{PATH}/options", json=ticket_of(answer))
    problem(refused, 401, "login_expired")
    assert await sessions(api, alice) == 0
    refusals = await events(api, alice, EventType.PASSKEY_REFUSED)
    assert [event.detail for event in refusals] == [{"reason": "origin"}] * 5


async def test_attempts_by_code_and_by_passkey_are_counted_together(
    api: Client, alice: User
) -> None:
    answer = await begin(api)
    asked = await asked_of(api, answer)
    await api.post("/login/enrolment/totp", json=ticket_of(answer))
    for _ in range(2):
        evil = SoftAuthenticator(origin="https://evil.example")
        problem(await add(api, answer, evil, asked), 403, "wrong_passkey")
    for _ in range(3):
        body = {**ticket_of(answer), "code": "12345x"}
        refused = await api.post("/login/enrolment/totp/confirm", json=body)
        problem(refused, 403, "wrong_code")
    problem(await add(api, answer, SoftAuthenticator(), asked), 401, "login_expired")


async def test_the_authenticator_must_verify_its_user(api: Client, alice: User) -> None:
    answer, passkey = await begin(api), SoftAuthenticator()
    asked = await asked_of(api, answer)
    passkey.flags &= ~VERIFIED
    problem(await add(api, answer, passkey, asked), 403, "wrong_passkey")
    assert [event.detail for event in await events(api, alice, EventType.PASSKEY_REFUSED)] == [{}]
    passkey.flags |= VERIFIED
    assert (await add(api, answer, passkey, asked)).status_code == 200


async def test_a_passkey_belongs_to_one_account(api: Client, alice: User) -> None:
    passkey = SoftAuthenticator()
    await insert_passkey(api.services, await api.create_user("bob@example.com"), passkey)
    answer = await begin(api)
    asked = await asked_of(api, answer)
    problem(await add(api, answer, passkey, asked), 409, "factor_exists")
    assert await sessions(api, alice) == 0
    # The login goes on with another one.
    assert (await add(api, answer, SoftAuthenticator(), asked)).status_code == 200


async def test_a_login_ends_after_five_minutes(api: Client, alice: User) -> None:
    with travel_to(now()) as clock:
        answer = await begin(api)
        asked = await asked_of(api, answer)
        clock.shift(timedelta(minutes=5, seconds=1))
        problem(await add(api, answer, SoftAuthenticator(), asked), 401, "login_expired")
        refused = await api.post(f"{PATH}/options", json=ticket_of(answer))
        problem(refused, 401, "login_expired")


async def test_a_challenge_ends_after_five_minutes(database_url: str) -> None:
    settings = Settings(
        database_url=database_url,  # type: ignore[arg-type]  # pydantic parses it
        mfa="required",
        mail_url=SecretStr("none:"),
        login_ticket_lifetime=timedelta(minutes=10),
    )
    async with client(create_app(settings)) as api:
        await api.create_user("alice@example.com")
        with travel_to(now()) as clock:
            answer = await begin(api)
            asked = await asked_of(api, answer)
            clock.shift(timedelta(minutes=5, seconds=1))
            problem(await add(api, answer, SoftAuthenticator(), asked), 403, "wrong_passkey")
            asked = await asked_of(api, answer)
            assert (await add(api, answer, SoftAuthenticator(), asked)).status_code == 200


@pytest.mark.parametrize("body", [{}, {"ticket": "x"}, {"ticket": new_secret()}])
async def test_without_a_login_nothing_is_added(
    api: Client, alice: User, body: dict[str, str]
) -> None:
    problem(await api.post(f"{PATH}/options", json=body), 401, "login_expired")
    asked = await asked_of(api, await begin(api))
    created = {**body, "credential": SoftAuthenticator().create(asked), "name": NAME}
    problem(await api.post(PATH, json=created), 401, "login_expired")


@pytest.mark.parametrize("moment", ["before the options", "before the passkey"])
@pytest.mark.parametrize("change", ["password", "deactivation", "factor"])
async def test_a_change_of_the_account_ends_the_login(
    api: Client, alice: User, change: str, moment: str
) -> None:
    answer = await begin(api)
    asked = await asked_of(api, answer) if moment == "before the passkey" else None
    if change == "password":
        await api.services.accounts.passwords.set(alice.id, "another horse another battery")
    elif change == "deactivation":
        await api.services.accounts.administration.change(alice.id, {"is_active": False})
    else:
        await add_second_factors(api.services, alice)
    if asked is None:
        refused = await api.post(f"{PATH}/options", json=ticket_of(answer))
    else:
        refused = await add(api, answer, SoftAuthenticator(), asked)
    problem(refused, 401, "login_expired")
    assert (await sessions(api, alice), await passkeys(api, alice)) == (0, 0)


async def test_the_cookie_of_another_browser_adds_nothing(api: Client, alice: User) -> None:
    answer = await begin(api, "session")
    asked = await asked_of(api, answer)
    api.cookies.clear()
    created = {"credential": SoftAuthenticator().create(asked), "name": NAME}
    for cookie in ({}, {"cookie": f"authapi-login={new_secret()}"}):
        problem(await api.post(PATH, json=created, headers=cookie), 401, "login_expired")


async def test_pages_of_other_origins_add_nothing(api: Client, alice: User) -> None:
    asked = await asked_of(api, await begin(api, "session"))
    created = {"credential": SoftAuthenticator().create(asked), "name": NAME}
    for path, body in ((f"{PATH}/options", {}), (PATH, created)):
        refused = await api.post(path, json=body, headers={"origin": "https://evil.example"})
        problem(refused, 403, "foreign_origin")


async def test_other_logins_end_and_personal_tokens_stay(api: Client, alice: User) -> None:
    old = [await sign_in(api.services, alice, strategy) for strategy in STRATEGIES]
    owner = Identity(alice, "cli", None, frozenset(), now(), (), None)
    create = api.services.tokens.personal.create
    _, secret = await create(owner, name="script", scopes=None, lifetime=None)
    answer = await begin(api)
    done = await add(api, answer, SoftAuthenticator(), await asked_of(api, answer))
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
    asked = await asked_of(api, answer)
    done = await add(api, answer, SoftAuthenticator(), asked)
    secrets = {answer.json()["ticket"], asked["challenge"], *done.json()["recovery_codes"]}
    await check_kept_secret(api, alice, secrets, caplog)


async def test_where_mail_is_sent_the_address_must_be_confirmed(
    database_url: str, tmp_path: Path
) -> None:
    async with client_with_mailbox(with_mail(database_url, tmp_path)) as api:
        alice = await api.create_user("alice@example.com")
        answer = await begin(api)
        refused = await api.post(f"{PATH}/options", json=ticket_of(answer))
        problem(refused, 403, "email_not_confirmed")
        sql(database_url, "UPDATE authapi_users SET email_confirmed_at = created_at")
        asked = await asked_of(api, answer)
        sql(database_url, "UPDATE authapi_users SET email_confirmed_at = NULL")
        refused = await add(api, answer, SoftAuthenticator(), asked)
        problem(refused, 403, "email_not_confirmed")
        sql(database_url, "UPDATE authapi_users SET email_confirmed_at = created_at")
        assert (await add(api, answer, SoftAuthenticator(), asked)).status_code == 200
        assert "factor_added" in await mail_kinds(api.services, alice.email)


@pytest.mark.parametrize(
    "changes", [{"passkeys": "off"}, {"public_url": "http://192.0.2.1:8000"}], ids=str
)
async def test_passkeys_that_cannot_be_added_are_not_named(
    make_settings: SettingsFactory, changes: dict[str, str]
) -> None:
    settings = make_settings(mfa="required", mail_url=SecretStr("none:"), **changes)
    async with client(create_app(settings)) as api:
        await api.create_user("alice@example.com")
        answer = await begin(api)
        assert answer.json()["methods"] == ["totp"]
        refused = await api.post(f"{PATH}/options", json=ticket_of(answer))
        problem(refused, 403, "passkeys_unavailable")


async def test_passkeys_as_second_factors_only_can_be_added(make_settings: SettingsFactory) -> None:
    changes = {"mfa": "required", "passkeys": "second_factor", "mail_url": SecretStr("none:")}
    async with client(create_app(make_settings(**changes))) as api:
        await api.create_user("alice@example.com")
        answer = await begin(api)
        assert answer.json()["methods"] == ["totp", "passkey"]
        done = await add(api, answer, SoftAuthenticator(), await asked_of(api, answer))
        assert done.status_code == 200
