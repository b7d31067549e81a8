"""Password resets and invitations."""

import base64
import hashlib
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import anyio
import httpx
import pytest
import sqlalchemy as sa
import time_machine

from authapi import Settings
from authapi.clock import now
from authapi.domain.email_address import parse_email
from authapi.services.accounts.email_tokens import EmailTokens
from authapi.services.mail import MailKind
from authapi.testing import PASSWORD, Client
from tests.conftest import SettingsFactory
from tests.tables import email_tokens, outbox
from tests.web.logins import sign_in
from tests.web.mailbox import client_with_mailbox, mail_kinds, secret_in, sent_mail
from tests.web.responses import check_headers, input_errors, problem

ALICE = "alice@example.com"
OTHER = "another horse, another battery"
THIRD = "a third horse, a third battery"


async def forget(api: Client, email: str = ALICE) -> httpx.Response:
    answer = await api.post("/password/forgot", json={"email": email})
    assert answer.status_code == 202
    return answer


async def reset_secret(api: Client, email: str = ALICE) -> str:
    await forget(api, email)
    return await secret_in(api.services, "reset", email)


async def reset(api: Client, secret: str, password: str = OTHER) -> httpx.Response:
    return await api.post("/password/reset", json={"token": secret, "new_password": password})


async def login(api: Client, password: str, email: str = ALICE) -> httpx.Response:
    api.cookies.clear()
    return await api.post("/login", json={"email": email, "password": password})


async def events(api: Client, email: str = ALICE) -> list[str]:
    user = await api.services.accounts.profiles.find_by_email(parse_email(email))
    found = await api.services.audit.page(user.id, before=None, limit=100)
    return [event.type.value for event in found]


async def test_a_forgotten_password_is_reset(api: Client) -> None:
    alice = await api.create_user(ALICE, name="Alice")
    sessions = [await sign_in(api.services, alice, name) for name in ("session", "token", "jwt")]
    personal = await api.post("/me/tokens", json={"name": "script"}, headers=sessions[0])
    sessions.append({"authorization": f"Bearer {personal.json()['access_token']}"})
    refresh = (
        await api.post("/login", json={"email": ALICE, "password": PASSWORD, "strategy": "jwt"})
    ).json()

    answer = await reset(api, await reset_secret(api))
    assert (answer.status_code, answer.content) == (204, b"")
    assert "set-cookie" not in answer.headers, "a reset does not log in"
    check_headers(answer)

    for headers in sessions:
        assert (await api.get("/me", headers=headers)).status_code == 401
    form = {"grant_type": "refresh_token", "refresh_token": refresh["refresh_token"]}
    problem(await api.post("/token", data=form), 400, "invalid_grant")
    problem(await login(api, PASSWORD), 401, "invalid_credentials")
    assert (await login(api, OTHER)).status_code == 200
    assert "password_changed" in await mail_kinds(api.services, ALICE)
    assert {"password_reset", "password_reset_requested"} <= set(await events(api))


async def test_mail_is_sent_to_the_stored_address(api: Client) -> None:
    await api.create_user("Alice@Example.com")
    await forget(api, "aLICE@EXAMPLE.COM")
    assert [letter.to for letter in await sent_mail(api.services)] == ["Alice@Example.com"]


async def test_responses_do_not_reveal_accounts(api: Client) -> None:
    await api.create_user(ALICE)
    deactivated = await api.create_user("gone@example.com")
    await api.services.accounts.administration.change(deactivated.id, {"is_active": False})
    for path in ("/password/forgot", "/email/confirm/request"):
        shapes = []
        for email in (ALICE, deactivated.email, "unknown@example.com"):
            answer = await api.post(path, json={"email": email})
            headers = [item for item in answer.headers.multi_items() if item[0] != "x-request-id"]
            shapes.append((answer.status_code, headers, answer.content))
        assert shapes[0][0] == 202
        assert shapes[0] == shapes[1] == shapes[2]
    assert {letter.to for letter in await sent_mail(api.services)} == {ALICE}


async def test_only_the_newest_link_works_once(api: Client) -> None:
    await api.create_user(ALICE)
    older, newer = await reset_secret(api), await reset_secret(api)
    problem(await reset(api, older), 400, "invalid_one_time_secret")
    assert (await reset(api, newer)).status_code == 204
    problem(await reset(api, newer, THIRD), 400, "invalid_one_time_secret")
    assert (await login(api, OTHER)).status_code == 200


async def test_a_refused_password_does_not_use_up_the_link(api: Client) -> None:
    await api.create_user(ALICE)
    secret = await reset_secret(api)
    for password, code in {"short": "password_too_short", ALICE * 2: "password_guessable"}.items():
        answer = await reset(api, secret, password)
        assert input_errors(answer) == [(("body", "new_password"), code)]
    assert (await reset(api, secret)).status_code == 204


async def test_fifty_concurrent_resets_succeed_once(api: Client) -> None:
    alice = await api.create_user(ALICE)
    secret = await reset_secret(api)
    answers: list[httpx.Response] = []
    passwords = [f"horse number {number:02} of fifty" for number in range(50)]

    async def use(password: str) -> None:
        answers.append(await reset(api, secret, password))

    async with anyio.create_task_group() as group:
        for password in passwords:
            group.start_soon(use, password)
    statuses = [answer.status_code for answer in answers]
    assert (statuses.count(204), statuses.count(400)) == (1, 49)
    assert (await events(api)).count("password_reset") == 1
    async with api.services.database.read() as store:
        assert await store.users.password_version(alice.id) == 1
        assert await store.users.find(alice.id) is not None


@pytest.mark.parametrize(
    "path", ["/password/reset", "/invitation/accept", "/email/confirm", "/email/undo"]
)
async def test_invalid_tokens_are_refused_alike(api: Client, path: str) -> None:
    await api.create_user(ALICE)
    members: Mapping[str, Any] = {
        "/password/reset": {"new_password": OTHER},
        "/invitation/accept": {"password": OTHER},
        "/email/undo": {"email": ALICE},
    }.get(path, {})
    bodies = []
    for token in ("x", "x" * 43, "vGf5C2n1q0bIu3Jp8mX7sYkLw4TzRdEaHhNoPiQrStU", "../../etc/passwd"):
        answer = await api.post(path, json={"token": token, **members})
        body = problem(answer, 400, "invalid_one_time_secret")
        bodies.append({name: value for name, value in body.items() if name != "request_id"})
    assert bodies == [bodies[0]] * len(bodies)
    malformed: list[object] = [None, 1, [], {"$ne": None}, "", "x" * 201, "a b"]
    for wrong in malformed:
        assert (await api.post(path, json={"token": wrong, **members})).status_code == 422


async def test_a_token_is_bound_to_its_purpose(api: Client) -> None:
    await api.create_user(ALICE)
    secret = await reset_secret(api)
    for path, members in {
        "/invitation/accept": {"password": OTHER},
        "/email/confirm": {},
        "/email/undo": {"email": ALICE},
    }.items():
        answer = await api.post(path, json={"token": secret, **members})
        problem(answer, 400, "invalid_one_time_secret")
    assert (await reset(api, secret)).status_code == 204


async def test_a_token_is_random_and_stored_as_a_hash(api: Client) -> None:
    await api.create_user(ALICE)
    secrets = [await reset_secret(api) for _ in range(20)]
    assert len({secret[:8] for secret in secrets}) == 20
    for secret in secrets:
        assert len(base64.urlsafe_b64decode(secret + "=")) * 8 == 256
    kept = b""
    async with api.services.database.engine.connect() as connection:
        for table in (email_tokens, outbox):
            rows = (await connection.execute(sa.select(table))).all()
            kept += repr(rows).encode()
        [digest] = (await connection.execute(sa.select(email_tokens.c.secret_hash))).scalars()
    assert digest.digest == hashlib.sha256(secrets[-1].encode()).digest()
    assert not any(secret.encode() in kept for secret in secrets)


async def test_a_link_expires(api: Client) -> None:
    await api.create_user(ALICE)
    secret = await reset_secret(api)
    with time_machine.travel(now() + timedelta(minutes=30, seconds=1), tick=True):
        problem(await reset(api, secret), 400, "invalid_one_time_secret")
    with time_machine.travel(now() + timedelta(minutes=29), tick=True):
        assert (await reset(api, secret)).status_code == 204


async def test_a_deactivated_account_gets_no_link(api: Client) -> None:
    alice = await api.create_user(ALICE)
    secret = await reset_secret(api)
    await api.services.accounts.administration.change(alice.id, {"is_active": False})
    problem(await reset(api, secret), 400, "invalid_one_time_secret")
    await api.services.accounts.administration.change(alice.id, {"is_active": True})
    problem(await reset(api, secret), 400, "invalid_one_time_secret")


async def test_mails_to_one_address_are_limited(database_url: str) -> None:
    settings = Settings(database_url=database_url, limit_mails="2/hour")  # type: ignore[arg-type]
    async with client_with_mailbox(settings) as api:
        await api.create_user(ALICE)
        for email in (ALICE, ALICE.upper(), "Alice@example.com", ALICE):
            await forget(api, email)
        assert await mail_kinds(api.services) == ["reset", "reset"]


async def test_requests_of_one_network_are_limited(make_settings: SettingsFactory) -> None:
    settings = make_settings(limit_registrations="2/minute")
    async with client_with_mailbox(settings) as api:
        for number in range(2):
            await forget(api, f"unknown{number}@example.com")
        for path in ("/password/forgot", "/email/confirm/request"):
            answer = await api.post(path, json={"email": ALICE})
            problem(answer, 429, "too_many_attempts")


async def test_without_mail_there_are_no_recovery_routes(make_settings: SettingsFactory) -> None:
    settings = make_settings(mail_url="none:")
    async with client_with_mailbox(settings) as api:
        document = (await api.get("/openapi.json")).json()
        for path in (
            "/password/forgot",
            "/password/reset",
            "/email/confirm",
            "/email/confirm/request",
            "/email/undo",
            "/me/email",
            "/invitation/accept",
        ):
            problem(await api.post(path, json={}), 404, "not_found")
            assert path not in document["paths"]
        body = {"email": ALICE, "password": PASSWORD}
        assert (await api.post("/register", json=body)).status_code == 201
        async with api.services.database.read() as store:
            assert await store.outbox.page(after=None, limit=10) == []


async def invited(api: Client, email: str = ALICE) -> str:
    services = api.services
    user = await services.accounts.registration.create(parse_email(email), None, name="Alice")
    async with services.database.transaction() as store:
        await EmailTokens(services.database, services.mail, services.settings).send(
            store, user, MailKind.INVITATION
        )
    return await secret_in(services, "invitation", email)


async def test_fifty_concurrent_acceptances_succeed_once(api: Client) -> None:
    secret, statuses = await invited(api), list[int]()

    async def accept(number: int) -> None:
        body = {"token": secret, "password": f"horse number {number:02} of fifty"}
        statuses.append((await api.post("/invitation/accept", json=body)).status_code)

    async with anyio.create_task_group() as group:
        for number in range(50):
            group.start_soon(accept, number)
    assert (statuses.count(204), statuses.count(400)) == (1, 49)
    assert (await events(api)).count("invitation_accepted") == 1


async def test_an_invitation_is_accepted(api: Client) -> None:
    secret = await invited(api)
    body = {"token": secret, "password": PASSWORD}
    assert (await api.post("/invitation/accept", json=body)).status_code == 204
    user = (await login(api, PASSWORD)).json()["user"]
    assert user["name"] == "Alice"
    assert user["email_confirmed_at"] is not None
    problem(await api.post("/invitation/accept", json=body), 400, "invalid_one_time_secret")
    assert "invitation_accepted" in await events(api)


async def test_the_name_can_be_changed_at_acceptance(api: Client) -> None:
    body = {"token": await invited(api), "password": PASSWORD, "name": "A. Lice"}
    assert (await api.post("/invitation/accept", json=body)).status_code == 204
    assert (await login(api, PASSWORD)).json()["user"]["name"] == "A. Lice"


async def test_a_newer_invitation_invalidates_the_older(api: Client) -> None:
    older = await invited(api)
    user = await api.services.accounts.profiles.find_by_email(parse_email(ALICE))
    async with api.services.database.transaction() as store:
        await EmailTokens(api.services.database, api.services.mail, api.services.settings).send(
            store, user, MailKind.INVITATION
        )
    body = {"token": older, "password": PASSWORD}
    problem(await api.post("/invitation/accept", json=body), 400, "invalid_one_time_secret")
    newer = await secret_in(api.services, "invitation", ALICE)
    assert (await api.post("/invitation/accept", json={**body, "token": newer})).status_code == 204


async def test_a_refused_password_keeps_the_invitation(api: Client) -> None:
    secret = await invited(api)
    answer = await api.post("/invitation/accept", json={"token": secret, "password": "short"})
    assert input_errors(answer) == [(("body", "password"), "password_too_short")]
    body = {"token": secret, "password": PASSWORD}
    assert (await api.post("/invitation/accept", json=body)).status_code == 204
