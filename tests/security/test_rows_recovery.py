"""Known vulnerabilities of other products: recovery, confirmation, invitations."""

from collections.abc import AsyncIterator
from email.message import EmailMessage
from typing import Any

import anyio
import httpx
import pytest

from authapi import Settings, User, create_app
from authapi.clock import now
from authapi.domain.email_address import parse_email
from authapi.services.accounts.email_tokens import EmailTokens
from authapi.services.mail import MailKind
from authapi.testing import PASSWORD, Client, client
from tests.web.logins import Headers, sign_in
from tests.web.mailbox import client_with_mailbox, mail_kinds, secret_in, sent_mail
from tests.web.responses import problem

VICTIM, ATTACKER = "victim@example.com", "attacker@example.org"
OTHER = "another horse, another battery"


@pytest.fixture
async def api(database_url: str) -> AsyncIterator[Client]:
    settings = Settings(
        database_url=database_url,  # type: ignore[arg-type]
        limit_mails="100000/hour",
        limit_registrations="100000/hour",
    )
    async with client_with_mailbox(settings) as found:
        yield found


async def confirmed(api: Client, email: str) -> User:
    user = await api.create_user(email)
    async with api.services.database.transaction() as store:
        await store.users.confirm_email(user.id, at=now())
    return user


async def reset_secret(api: Client) -> str:
    assert (await api.post("/password/forgot", json={"email": VICTIM})).status_code == 202
    return await secret_in(api.services, "reset", VICTIM)


async def reset(api: Client, secret: str, password: str = OTHER) -> httpx.Response:
    return await api.post("/password/reset", json={"token": secret, "new_password": password})


async def test_row_29_mail_goes_only_to_the_address_of_the_account(api: Client) -> None:
    await api.create_user(VICTIM)
    for email in (
        [VICTIM, ATTACKER],
        {"0": VICTIM, "1": ATTACKER},
        f"{VICTIM},{ATTACKER}",
        f"{VICTIM} {ATTACKER}",
        f"{VICTIM};{ATTACKER}",
        f"{VICTIM}\nBcc:{ATTACKER}",
        f"{VICTIM}\r\nBcc: {ATTACKER}",
        f"{VICTIM}\0{ATTACKER}",
        f"Name <{VICTIM}>",
        f"<{VICTIM}>",
        f" {VICTIM}",
        f"{VICTIM}%0aBcc:{ATTACKER}",
    ):
        for path in ("/password/forgot", "/email/confirm/request"):
            answer = await api.post(path, json={"email": email})
            assert answer.status_code in (400, 422), email
    both = f'{{"email": "{VICTIM}", "email": "{ATTACKER}"}}'
    headers = {"content-type": "application/json"}
    problem(
        await api.post("/password/forgot", content=both, headers=headers), 400, "malformed_json"
    )
    form = f"email={VICTIM}&email={ATTACKER}"
    for content_type in ("application/x-www-form-urlencoded", "text/plain"):
        headers = {"content-type": content_type}
        answer = await api.post("/password/forgot", content=form, headers=headers)
        problem(answer, 415, "unsupported_media_type")
    headers = {"content-type": "application/x-www-form-urlencoded"}
    answer = await api.post("/account/forgot", content=form, headers=headers)
    assert (answer.status_code, answer.headers["content-type"]) == (400, "text/html; charset=utf-8")
    headers["accept"] = "application/json"
    answer = await api.post("/account/forgot", content=form, headers=headers)
    problem(answer, 400, "malformed_request")
    assert await sent_mail(api.services) == []
    await api.post("/password/forgot", json={"email": VICTIM.upper()})
    assert [letter.to for letter in await sent_mail(api.services)] == [VICTIM]


async def test_row_30_parameters_other_than_strings_are_rejected(api: Client) -> None:
    await api.create_user(VICTIM)
    secret = await reset_secret(api)
    operators: list[Any] = [{"$ne": None}, {"like": "%"}, ["x"], 1, True, None, {"$gt": ""}]
    for value in operators:
        for body in (
            {"token": value, "new_password": OTHER},
            {"token": secret, "new_password": value},
            {"token": {"$eq": secret}, "new_password": OTHER},
        ):
            problem(await api.post("/password/reset", json=body), 422, "validation_failed")
        for path in ("/password/forgot", "/email/confirm/request"):
            answer = await api.post(path, json={"email": value})
            problem(answer, 422, "validation_failed")
            answer = await api.post(path, json={"email": {"like": "%"}})
            problem(answer, 422, "validation_failed")
    for more in ({"email": ATTACKER}, {"user_id": "1"}, {"redirect": "https://evil.example"}):
        body = {"token": secret, "new_password": OTHER, **more}
        problem(await api.post("/password/reset", json=body), 422, "validation_failed")
    for text in ("%", "_" * 43, "'OR/**/1=1--", "*"):
        problem(await reset(api, text), 400, "invalid_one_time_secret")
    assert (await reset(api, secret)).status_code == 204


async def attack_beforehand(api: Client) -> tuple[list[Headers], str]:
    """An attacker registers with the address of the victim, and creates credentials."""
    body = {"email": VICTIM, "password": PASSWORD, "name": "Attacker"}
    assert (await api.post("/register", json=body)).status_code == 201
    user = await api.services.accounts.profiles.find_by_email(parse_email(VICTIM))
    held = [await sign_in(api.services, user, name) for name in ("session", "token", "jwt")]
    answer = await api.post("/me/tokens", json={"name": "x"}, headers=held[0])
    held.append({"authorization": f"Bearer {answer.json()['access_token']}"})
    login = {"email": VICTIM, "password": PASSWORD, "strategy": "jwt"}
    refresh: str = (await api.post("/login", json=login)).json()["refresh_token"]
    # And a pending change of address.
    assert (await api.post("/me/email", json={"email": ATTACKER}, headers=held[0])).is_success
    await secret_in(api.services, "change", ATTACKER)
    api.cookies.clear()
    return held, refresh


@pytest.mark.parametrize("way", ["confirms", "resets"])
async def test_row_33_account_created_beforehand_gives_no_access(api: Client, way: str) -> None:
    held, refresh = await attack_beforehand(api)
    change = await secret_in(api.services, "change", ATTACKER)
    if way == "confirms":
        secret = await secret_in(api.services, "confirm", VICTIM)
        body = {"token": secret, "email": VICTIM}
        assert (await api.post("/email/confirm", json=body)).status_code == 204
        secret = await secret_in(api.services, "reset", VICTIM)
    else:
        secret = await reset_secret(api)
    assert (await reset(api, secret)).status_code == 204

    for headers in held:
        problem(await api.get("/me", headers=headers), 401, "unauthenticated")
    form = {"grant_type": "refresh_token", "refresh_token": refresh}
    problem(await api.post("/token", data=form), 400, "invalid_grant")
    login = {"email": VICTIM, "password": PASSWORD}
    problem(await api.post("/login", json=login), 401, "invalid_credentials")
    for body in ({"token": change}, {"token": change, "password": PASSWORD}):
        problem(await api.post("/email/confirm", json=body), 400, "invalid_one_time_secret")
    user = (await api.post("/login", json={**login, "password": OTHER})).json()["user"]
    assert (user["email"], user["name"]) == (VICTIM, None)
    assert user["email_confirmed_at"] is not None


async def test_row_33_unconfirmed_registration_gives_no_access(database_url: str) -> None:
    settings = Settings(database_url=database_url, registration="confirm")  # type: ignore[arg-type]
    async with client_with_mailbox(settings) as api:
        for name, password in (("Attacker", PASSWORD), ("Victim", OTHER)):
            body = {"email": VICTIM, "password": password, "name": name}
            assert (await api.post("/register", json=body)).status_code == 202
            assert await mail_kinds(api.services, VICTIM)  # waits until the request is done
        secret = await secret_in(api.services, "confirm", VICTIM)
        # The password that the victim chose is not the one of the account, so it does not confirm.
        answer = await api.post("/email/confirm", json={"token": secret, "password": OTHER})
        problem(answer, 403, "wrong_password")
        body = {"token": secret, "email": VICTIM}
        assert (await api.post("/email/confirm", json=body)).status_code == 204
        body = {"email": VICTIM, "password": PASSWORD}
        problem(await api.post("/login", json=body), 401, "invalid_credentials")
        secret = await secret_in(api.services, "reset", VICTIM)
        assert (await reset(api, secret)).status_code == 204
        user = (await api.post("/login", json={**body, "password": OTHER})).json()["user"]
        assert user["name"] is None


@pytest.mark.slow
async def test_row_34_token_confirms_only_the_address_it_was_sent_to(api: Client) -> None:
    """200 rounds of two concurrent changes: no account gets an unconfirmed address."""
    own = "own@example.net"
    alice = await confirmed(api, own)
    headers = await sign_in(api.services, alice)
    read = set[str]()
    for number in range(200):
        mine, foreign = f"a{number}@example.org", f"v{number}@example.com"

        async def ask_for(address: str) -> None:
            answer = await api.post("/me/email", json={"email": address}, headers=headers)
            assert answer.status_code == 202

        async with anyio.create_task_group() as group:
            for address in (mine, foreign) if number % 2 else (foreign, mine):
                group.start_soon(ask_for, address)
        found = [letter.secret for letter in await sent_mail(api.services, mine)]
        for secret in found:
            answer = await api.post("/email/confirm", json={"token": secret}, headers=headers)
            assert answer.status_code in (204, 400)
        read.add(mine)
        email = (await api.get("/me", headers=headers)).json()["email"]
        assert email in read | {own}
        async with api.services.database.transaction() as store:
            # Delete the mail that was read, or the outbox would grow in each round.
            for entry in await store.outbox.page(after=None, limit=1000):
                await store.outbox.complete(entry.id)
    assert (await api.get("/me", headers=headers)).json()["email"] != own, "none ever succeeded"


@pytest.mark.parametrize("change", ["address", "password", "set by an operator"])
async def test_row_35_change_invalidates_earlier_links(api: Client, change: str) -> None:
    victim = await confirmed(api, VICTIM)
    secret = await reset_secret(api)
    headers = await sign_in(api.services, victim)
    if change == "address":
        await api.post("/me/email", json={"email": "new@example.com"}, headers=headers)
        found = await secret_in(api.services, "change", "new@example.com")
        answer = await api.post("/email/confirm", json={"token": found}, headers=headers)
    elif change == "password":
        body = {"current_password": PASSWORD, "new_password": OTHER}
        answer = await api.post("/me/password", json=body, headers=headers)
    else:
        await api.services.accounts.passwords.set(victim.id, OTHER)
        answer = await api.get("/health/live")
    assert answer.is_success
    problem(await reset(api, secret, "a third horse, a third"), 400, "invalid_one_time_secret")


async def test_row_36_requests_do_not_determine_link_targets(database_url: str) -> None:
    settings = Settings(
        database_url=database_url,  # type: ignore[arg-type]
        public_url="https://auth.example.com",
        limit_mails="100/hour",
    )
    app = create_app(settings)
    async with client(app, base_url="https://auth.example.com") as api:
        await api.create_user(VICTIM)
        body = b'{"email": "victim@example.com"}'
        hostile: list[list[tuple[bytes, bytes]]] = [
            [(b"host", b"evil.example")],
            [(b"host", b"auth.example.com"), (b"x-forwarded-host", b"evil.example")],
            [(b"host", b"auth.example.com"), (b"forwarded", b"host=evil.example;proto=http")],
            [(b"host", b"auth.example.com@evil.example")],
            [(b"host", b"auth.example.com"), (b"x-forwarded-proto", b"javascript")],
            [(b"host", b"auth.example.com"), (b"origin", b"https://auth.example.com")],
            [(b"host", b"auth.example.com"), (b"x-original-url", b"https://evil.example/")],
        ]
        for headers in hostile:
            await api.request(
                "POST",
                "/password/forgot",
                content=body,
                headers=[*headers, (b"content-type", b"application/json")],
            )
        found = await api.outbox()
        assert len(found) == len(hostile)
        for message in found:
            assert "https://auth.example.com/account/reset?token=" in text_of(message)
            assert "evil" not in message.as_string()


def text_of(message: EmailMessage) -> str:
    body = message.get_body(("plain",))
    assert body is not None
    text: str = body.get_content()
    return text


async def test_row_38_only_the_newest_link_works_and_only_once(api: Client) -> None:
    await api.create_user(VICTIM)
    older, secret = await reset_secret(api), await reset_secret(api)
    problem(await reset(api, older), 400, "invalid_one_time_secret")
    problem(await reset(api, secret, "weak"), 422, "validation_failed")
    statuses: list[int] = []

    async def use(number: int) -> None:
        answer = await reset(api, secret, f"the horse {number} of a stable")
        statuses.append(answer.status_code)

    async with anyio.create_task_group() as group:
        for number in range(50):
            group.start_soon(use, number)
    assert (statuses.count(204), statuses.count(400)) == (1, 49)
    problem(await reset(api, secret), 400, "invalid_one_time_secret")


async def test_row_39_only_the_newest_link_of_the_same_account_works(api: Client) -> None:
    services = api.services
    user = await services.accounts.registration.create(parse_email(VICTIM), None)
    secrets = []
    for _ in range(2):
        async with services.database.transaction() as store:
            await EmailTokens(services.database, services.mail, services.settings).send(
                store, user, MailKind.INVITATION
            )
        secrets.append(await secret_in(services, "invitation", VICTIM))
    body = {"token": secrets[0], "password": OTHER}
    problem(await api.post("/invitation/accept", json=body), 400, "invalid_one_time_secret")
    attacker = await confirmed(api, ATTACKER)
    await api.post("/email/confirm/request", json={"email": VICTIM})
    secret = await secret_in(services, "confirm", VICTIM)
    headers = await sign_in(services, attacker)
    answer = await api.post("/email/confirm", json={"token": secret}, headers=headers)
    problem(answer, 403, "proof_required")
    assert (await services.accounts.profiles.find(user.id)).email_confirmed_at is None
    body = {"token": secrets[1], "password": OTHER}
    assert (await api.post("/invitation/accept", json=body)).status_code == 204


async def test_row_43_responses_do_not_reveal_accounts(database_url: str) -> None:
    settings = Settings(
        database_url=database_url,  # type: ignore[arg-type]
        registration="confirm",
        limit_mails="100/hour",
    )
    async with client_with_mailbox(settings) as api:
        victim, attacker = await confirmed(api, VICTIM), await confirmed(api, ATTACKER)
        await api.create_user("unconfirmed@example.com")
        gone = await confirmed(api, "gone@example.com")
        await api.services.accounts.administration.change(gone.id, {"is_active": False})
        headers = await sign_in(api.services, attacker)
        addresses = (victim.email, "unconfirmed@example.com", gone.email, "unknown@example.com")
        requests: dict[str, tuple[dict[str, str], Headers]] = {
            "/register": ({"password": OTHER, "name": "X"}, {}),
            "/password/forgot": ({}, {}),
            "/email/confirm/request": ({}, {}),
            "/me/email": ({}, headers),
        }
        for path, (more, sent) in requests.items():
            shapes = []
            for address in addresses:
                answer = await api.post(path, json={"email": address, **more}, headers=sent)
                told = [it for it in answer.headers.multi_items() if it[0] != "x-request-id"]
                shapes.append((answer.status_code, answer.content, told))
            assert shapes[0][0] == 202, path
            assert shapes == [shapes[0]] * len(shapes), path
