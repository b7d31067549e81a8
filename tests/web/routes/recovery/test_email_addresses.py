"""E-mail addresses: confirmation, change, and reverting a change."""

from datetime import timedelta

import anyio
import httpx
import pytest
import time_machine
from fastapi import Depends

from authapi import Settings, User, create_app, current_user
from authapi.clock import now
from authapi.domain.email_address import parse_email
from authapi.testing import PASSWORD, Client
from tests.conftest import SettingsFactory
from tests.web.logins import Headers, sign_in
from tests.web.mailbox import client_with_mailbox, mail_kinds, secret_in, sent_mail
from tests.web.responses import problem

ALICE, NEW, NEWER = "alice@example.com", "alice@example.org", "alice@example.net"
BOB = "bob@example.com"
OTHER = "another horse, another battery"


async def account(api: Client, email: str = ALICE, *, confirmed: bool = True) -> User:
    user = await api.create_user(email, name="Alice")
    if confirmed:
        async with api.services.database.transaction() as store:
            await store.users.confirm_email(user.id, at=now())
    return await api.services.accounts.profiles.find(user.id)


async def confirmation(api: Client, email: str = ALICE) -> str:
    answer = await api.post("/email/confirm/request", json={"email": email})
    assert answer.status_code == 202
    return await secret_in(api.services, "confirm", email)


async def confirm(
    api: Client, secret: str, headers: Headers | None = None, **members: str
) -> httpx.Response:
    return await api.post("/email/confirm", json={"token": secret, **members}, headers=headers)


async def request_change(
    api: Client, headers: Headers, email: str = NEW, **members: str
) -> httpx.Response:
    return await api.post("/me/email", json={"email": email, **members}, headers=headers)


async def change(api: Client, headers: Headers, email: str = NEW) -> None:
    assert (await request_change(api, headers, email)).status_code == 202
    secret = await secret_in(api.services, "change", email)
    assert (await confirm(api, secret, headers)).status_code == 204


async def me(api: Client, headers: Headers) -> dict[str, object]:
    answer = await api.get("/me", headers=headers)
    assert answer.status_code == 200
    body: dict[str, object] = answer.json()
    return body


async def events(api: Client, user: User) -> list[str]:
    found = await api.services.audit.page(user.id, before=None, limit=100)
    return [event.type.value for event in found]


# Confirmation -----------------------------------------------------------------------------------


async def test_registration_sends_a_link(api: Client) -> None:
    body = {"email": ALICE, "password": PASSWORD, "name": "Alice", "locale": "ko"}
    made = (await api.post("/register", json=body)).json()
    assert (made["email_confirmed_at"], made["locale"], made["roles"]) == (None, "ko", [])
    [letter] = await sent_mail(api.services)
    assert (letter.kind, letter.to, letter.locale) == ("confirm", ALICE, "ko")
    assert letter.secret is not None
    assert (await confirm(api, letter.secret, password=PASSWORD)).status_code == 204
    user = await api.services.accounts.profiles.find_by_email(parse_email(ALICE))
    assert user.email_confirmed_at is not None
    assert user.name == "Alice"
    assert "email_confirmed" in await events(api, user)


@pytest.mark.parametrize("strategy", ["session", "jwt"])
async def test_a_logged_in_user_confirms(api: Client, strategy: str) -> None:
    alice = await account(api, confirmed=False)
    headers = await sign_in(api.services, alice, strategy)
    assert (await me(api, headers))["email_confirmed_at"] is None
    assert (await confirm(api, await confirmation(api), headers)).status_code == 204
    found = await me(api, headers)
    assert found["email_confirmed_at"] is not None
    assert found["name"] == "Alice"
    assert await mail_kinds(api.services) == ["confirm"]


async def test_a_wrong_password_does_not_use_up_the_link(api: Client) -> None:
    alice = await account(api, confirmed=False)
    secret = await confirmation(api)
    problem(await confirm(api, secret, password=OTHER), 403, "wrong_password")
    assert (await api.services.accounts.profiles.find(alice.id)).email_confirmed_at is None
    assert "reauthentication_refused" in await events(api, alice)
    assert (await confirm(api, secret, password=PASSWORD)).status_code == 204
    problem(await confirm(api, secret, password=PASSWORD), 400, "invalid_one_time_secret")


async def test_a_confirmation_does_not_consume_the_mail_limit(database_url: str) -> None:
    settings = Settings(database_url=database_url, limit_mails="2/hour")  # type: ignore[arg-type]
    async with client_with_mailbox(settings) as api:
        await account(api, confirmed=False)
        secret = await confirmation(api)
        assert (await confirm(api, secret, password=PASSWORD)).status_code == 204
        assert (await api.post("/password/forgot", json={"email": ALICE})).status_code == 202
        assert await mail_kinds(api.services) == ["confirm", "reset"]


async def test_password_attempts_with_a_link_are_limited(api: Client) -> None:
    await account(api, confirmed=False)
    secret = await confirmation(api)
    statuses = [
        (await confirm(api, secret, password=f"guess {number}")).status_code for number in range(11)
    ]
    assert statuses == [403] * 10 + [429]


async def test_confirming_with_the_address_resets_the_account(api: Client) -> None:
    alice = await account(api, confirmed=False)
    logins = [await sign_in(api.services, alice, name) for name in ("session", "token", "jwt")]
    assert (await confirm(api, await confirmation(api), email=ALICE)).status_code == 204
    for headers in logins:
        assert (await api.get("/me", headers=headers)).status_code == 401
    body = {"email": ALICE, "password": PASSWORD}
    problem(await api.post("/login", json=body), 401, "invalid_credentials")
    user = await api.services.accounts.profiles.find(alice.id)
    assert (user.name, user.email_confirmed_at is not None) == (None, True)
    secret = await secret_in(api.services, "reset", ALICE)
    body = {"token": secret, "new_password": OTHER}
    assert (await api.post("/password/reset", json=body)).status_code == 204
    body = {"email": ALICE, "password": OTHER}
    assert (await api.post("/login", json=body)).status_code == 200


async def test_a_login_to_another_account_is_refused(api: Client) -> None:
    await account(api, confirmed=False)
    bob = await account(api, BOB)
    secret = await confirmation(api)
    headers = await sign_in(api.services, bob)
    problem(await confirm(api, secret, headers), 403, "proof_required")
    problem(await confirm(api, secret, headers, password=PASSWORD), 403, "proof_required")
    assert (await confirm(api, secret, password=PASSWORD)).status_code == 204


async def test_a_confirmed_address_gets_no_further_mail(api: Client) -> None:
    await account(api)
    answer = await api.post("/email/confirm/request", json={"email": ALICE})
    assert answer.status_code == 202
    assert await mail_kinds(api.services) == []


async def test_a_confirmed_address_takes_effect_at_once(database_url: str) -> None:
    settings = Settings(database_url=database_url)  # type: ignore[arg-type]
    app = create_app(settings)
    gate = Depends(current_user(verified=True))
    app.get("/verified", dependencies=[gate])(lambda: "welcome")
    async with client_with_mailbox(settings, app) as api:
        alice = await account(api, confirmed=False)
        headers = await sign_in(api.services, alice)
        problem(await api.get("/verified", headers=headers), 403, "email_not_confirmed")
        assert (await confirm(api, await confirmation(api), headers)).status_code == 204
        assert (await api.get("/verified", headers=headers)).json() == "welcome"


# Change -----------------------------------------------------------------------------------------


async def test_an_address_changes_when_the_new_one_is_confirmed(api: Client) -> None:
    alice = await account(api)
    headers = await sign_in(api.services, alice)
    answer = await request_change(api, headers)
    assert (answer.status_code, answer.content) == (202, b"")
    secret = await secret_in(api.services, "change", NEW)
    assert (await me(api, headers))["email"] == ALICE
    assert (await confirm(api, secret, headers)).status_code == 204
    found = await me(api, headers)
    assert found["email"] == NEW
    assert found["email_confirmed_at"] is not None
    assert await mail_kinds(api.services, ALICE) == ["email_changed"]
    assert {"email_change_requested", "email_changed"} <= set(await events(api, alice))
    problem(await confirm(api, secret, headers), 400, "invalid_one_time_secret")


async def test_a_change_requires_the_password_or_a_recent_login(api: Client) -> None:
    alice = await account(api)
    headers = await sign_in(api.services, alice)
    with time_machine.travel(now() + timedelta(minutes=6), tick=True):
        problem(await request_change(api, headers), 401, "stale_authentication")
        problem(await request_change(api, headers, current_password=OTHER), 403, "wrong_password")
        answer = await request_change(api, headers, current_password=PASSWORD)
        assert answer.status_code == 202
        assert await mail_kinds(api.services) == ["change"]


async def test_a_new_address_is_not_confirmed_by_the_link_alone(api: Client) -> None:
    alice = await account(api)
    headers = await sign_in(api.services, alice)
    await request_change(api, headers)
    secret = await secret_in(api.services, "change", NEW)
    problem(await confirm(api, secret), 403, "proof_required")
    bob = await account(api, BOB)
    elsewhere = await sign_in(api.services, bob)
    problem(await confirm(api, secret, elsewhere), 403, "proof_required")
    assert (await confirm(api, secret, password=PASSWORD)).status_code == 204
    assert (await me(api, headers))["email"] == NEW


async def test_only_the_owner_learns_that_an_address_is_taken(api: Client) -> None:
    alice = await account(api)
    await account(api, BOB)
    headers = await sign_in(api.services, alice)
    taken, free = await request_change(api, headers, BOB), await request_change(api, headers, NEW)
    shapes = [
        (
            answer.status_code,
            answer.content,
            [item for item in answer.headers.multi_items() if item[0] != "x-request-id"],
        )
        for answer in (taken, free)
    ]
    assert shapes[0] == shapes[1]
    assert await mail_kinds(api.services, BOB) == ["address_taken"]


async def test_the_first_confirmation_of_an_address_wins(api: Client) -> None:
    alice, bob = await account(api), await account(api, BOB)
    hers, his = await sign_in(api.services, alice), await sign_in(api.services, bob)
    await request_change(api, hers)
    first = await secret_in(api.services, "change", NEW)
    await request_change(api, his)
    second = await secret_in(api.services, "change", NEW)
    assert (await confirm(api, second, his)).status_code == 204
    problem(await confirm(api, first, hers), 409, "email_taken")
    assert (await me(api, hers))["email"] == ALICE
    assert (await me(api, his))["email"] == NEW


async def test_a_password_change_invalidates_pending_requests(api: Client) -> None:
    alice = await account(api)
    thief = await sign_in(api.services, alice)
    await request_change(api, thief)
    secret = await secret_in(api.services, "change", NEW)
    await api.services.accounts.passwords.set(alice.id, OTHER)
    problem(await confirm(api, secret, password=OTHER), 400, "invalid_one_time_secret")
    assert (await api.services.accounts.profiles.find(alice.id)).email == ALICE


async def test_a_change_of_spelling_needs_no_confirmation(api: Client) -> None:
    alice = await account(api)
    headers = await sign_in(api.services, alice)
    await change(api, headers, "Alice@Example.com")
    assert (await me(api, headers))["email"] == "Alice@Example.com"
    assert "email_changed" not in await mail_kinds(api.services)


async def test_an_unconfirmed_old_address_gets_no_revert_link(api: Client) -> None:
    alice = await account(api, "alise@example.com", confirmed=False)
    await change(api, await sign_in(api.services, alice), ALICE)
    [mail] = await sent_mail(api.services, "alise@example.com")
    assert (mail.kind, mail.secret, mail.name) == ("email_changed", None, None)


# Reverting a change -----------------------------------------------------------------------------


async def undo(api: Client, secret: str, email: str = ALICE) -> httpx.Response:
    api.cookies.clear()
    return await api.post("/email/undo", json={"token": secret, "email": email})


async def test_the_old_address_can_revert_a_change(api: Client) -> None:
    alice = await account(api)
    thief = await sign_in(api.services, alice)
    await change(api, thief, NEW)
    first = await secret_in(api.services, "email_changed", ALICE)
    await change(api, thief, NEWER)
    second = await secret_in(api.services, "email_changed", NEW)
    body = {"current_password": PASSWORD, "new_password": OTHER}
    answer = await api.post("/me/password", json=body, headers=thief)
    assert answer.status_code == 204

    assert (await undo(api, first)).status_code == 204
    user = await api.services.accounts.profiles.find(alice.id)
    assert user.email == ALICE
    for path in ("/me", "/me/sessions"):
        assert (await api.get(path, headers=thief)).status_code == 401
    for password in (PASSWORD, OTHER):
        body = {"email": ALICE, "password": password}
        problem(await api.post("/login", json=body), 401, "invalid_credentials")
    # The links that were sent to the thief are invalid, and the link works only once.
    problem(await undo(api, second, NEW), 400, "invalid_one_time_secret")
    problem(await undo(api, first), 400, "invalid_one_time_secret")
    secret = await secret_in(api.services, "reset", ALICE)
    body = {"token": secret, "new_password": "the horse is mine again"}
    assert (await api.post("/password/reset", json=body)).status_code == 204
    assert "email_change_reverted" in await events(api, user)


async def test_the_old_address_is_reserved(api: Client) -> None:
    alice, bob = await account(api), await account(api, BOB)
    await change(api, await sign_in(api.services, alice), NEW)
    body = {"email": ALICE, "password": PASSWORD}
    problem(await api.post("/register", json=body), 409, "email_taken")
    his = await sign_in(api.services, bob)
    assert (await request_change(api, his, ALICE)).status_code == 202
    assert "change" not in await mail_kinds(api.services, ALICE)
    with time_machine.travel(now() + timedelta(days=7, minutes=1), tick=True):
        assert (await api.post("/register", json=body)).status_code == 201


async def test_the_owner_can_change_back_without_a_link(api: Client) -> None:
    alice = await account(api)
    headers = await sign_in(api.services, alice)
    await change(api, headers, NEW)
    await change(api, headers, ALICE)
    assert (await me(api, headers))["email"] == ALICE


async def test_a_revert_link_expires(api: Client) -> None:
    alice = await account(api)
    await change(api, await sign_in(api.services, alice), NEW)
    secret = await secret_in(api.services, "email_changed", ALICE)
    with time_machine.travel(now() + timedelta(days=7, minutes=1), tick=True):
        problem(await undo(api, secret), 400, "invalid_one_time_secret")


@pytest.mark.parametrize("purpose", ["confirm", "change", "email_changed"])
async def test_fifty_concurrent_uses_succeed_once(api: Client, purpose: str) -> None:
    alice = await account(api, confirmed=purpose != "confirm")
    headers = await sign_in(api.services, alice)
    if purpose == "confirm":
        path, secret = "/email/confirm", await confirmation(api)
    elif purpose == "change":
        await request_change(api, headers)
        path, secret = "/email/confirm", await secret_in(api.services, "change", NEW)
    else:
        await change(api, headers)
        path, secret = "/email/undo", await secret_in(api.services, "email_changed", ALICE)
    statuses: list[int] = []

    async def use() -> None:
        body = {"token": secret, "email": ALICE}
        answer = await api.post(path, json=body, headers=headers)
        statuses.append(answer.status_code)

    async with anyio.create_task_group() as group:
        for _ in range(50):
            group.start_soon(use)
    assert (statuses.count(204), statuses.count(400)) == (1, 49)


# With registration=confirm ------------------------------------------------------------------------


async def test_registration_does_not_reveal_taken_addresses(database_url: str) -> None:
    settings = Settings(database_url=database_url, registration="confirm")  # type: ignore[arg-type]
    async with client_with_mailbox(settings) as api:
        await account(api)
        await account(api, BOB, confirmed=False)
        shapes = []
        for email in (ALICE, BOB, NEW):
            body = {"email": email, "password": OTHER, "name": "Mallory"}
            answer = await api.post("/register", json=body)
            headers = [item for item in answer.headers.multi_items() if item[0] != "x-request-id"]
            shapes.append((answer.status_code, headers, answer.content))
        assert shapes[0] == shapes[1] == shapes[2]
        assert (shapes[0][0], shapes[0][2]) == (202, b"")
        assert await mail_kinds(api.services, ALICE) == ["address_taken"]
        assert await mail_kinds(api.services, BOB) == ["confirm"]
        assert await mail_kinds(api.services, NEW) == ["confirm"]
        assert (
            await api.services.accounts.profiles.find_by_email(parse_email(BOB))
        ).name == "Alice"
        problem(
            await api.post("/register", json={"email": NEW, "password": "short"}),
            422,
            "validation_failed",
        )


async def test_an_unconfirmed_account_cannot_log_in(database_url: str) -> None:
    settings = Settings(database_url=database_url, registration="confirm")  # type: ignore[arg-type]
    async with client_with_mailbox(settings) as api:
        body = {"email": ALICE, "password": PASSWORD, "name": "Alice"}
        assert (await api.post("/register", json=body)).status_code == 202
        secret = await secret_in(api.services, "confirm", ALICE)
        credentials = {"email": ALICE, "password": PASSWORD}
        unconfirmed = await api.post("/login", json=credentials)
        wrong = await api.post("/login", json={"email": BOB, "password": PASSWORD})
        bodies = [problem(answer, 401, "invalid_credentials") for answer in (unconfirmed, wrong)]
        for found in bodies:
            del found["request_id"]
        assert bodies[0] == bodies[1]
        assert (await confirm(api, secret, password=PASSWORD)).status_code == 204
        user = (await api.post("/login", json=credentials)).json()["user"]
        assert user["name"] == "Alice"


@pytest.mark.parametrize("mode", ["invite", "closed"])
async def test_registration_can_be_closed(make_settings: SettingsFactory, mode: str) -> None:
    async with client_with_mailbox(make_settings(registration=mode)) as api:
        body = {"email": ALICE, "password": PASSWORD}
        problem(await api.post("/register", json=body), 403, "registration_closed")
        assert await sent_mail(api.services) == []
