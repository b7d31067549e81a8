"""The pages of the links in mails, tested without a browser."""

import re
from collections.abc import AsyncIterator

import pytest
from fastapi import FastAPI

from authapi import AuthAPI, Settings, create_app
from authapi.domain.email_address import parse_email
from authapi.services.accounts.email_tokens import EmailTokens
from authapi.services.mail import MailKind
from authapi.testing import PASSWORD, Client, client
from authapi.web.routes.pages.mail import PAGES
from tests.conftest import SettingsFactory
from tests.web.logins import sign_in
from tests.web.mailbox import client_with_mailbox, mail_kinds, secret_in, sent_mail
from tests.web.pages.checks import check_page, main_of
from tests.web.pages.texts import ENGLISH, KOREAN

ALICE = "alice@example.com"
OTHER = "another horse, another battery"


@pytest.fixture
async def api(database_url: str) -> AsyncIterator[Client]:
    async with client_with_mailbox(Settings(database_url=database_url)) as found:  # type: ignore[arg-type]
        yield found


async def reset_secret(api: Client) -> str:
    await api.post("/password/forgot", json={"email": ALICE})
    return await secret_in(api.services, "reset", ALICE)


async def test_a_password_is_reset(api: Client) -> None:
    await api.create_user(ALICE)
    secret = await reset_secret(api)
    for _ in range(2):  # GET does not use up the link
        shown = await api.get("/account/reset", params={"token": secret})
        check_page(shown, 200, ENGLISH["reset.title"])
        assert f'value="{secret}"' in shown.text
    form = {"token": secret, "new_password": "short"}
    refused = await api.post("/account/reset", data=form)
    check_page(refused, 422, "at least 15 characters", is_error=True)
    assert 'aria-invalid="true"' in refused.text
    assert "short" not in re.sub(r"too short", "", refused.text), "the password is not repeated"
    assert f'value="{ALICE}"' in refused.text, "password managers store the pair"
    done = await api.post(
        "/account/reset", data={**form, "new_password": OTHER}, follow_redirects=True
    )
    check_page(done, 200, ENGLISH["reset.done"])
    assert secret not in done.text
    used = await api.post("/account/reset", data={**form, "new_password": OTHER})
    check_page(used, 400, ENGLISH["invalid_one_time_secret"], is_error=True)
    assert 'href="forgot">Request a new link' in used.text
    body = {"email": ALICE, "password": OTHER}
    assert (await api.post("/login", json=body)).status_code == 200


async def test_a_reset_mail_is_requested(api: Client) -> None:
    await api.create_user(ALICE)
    check_page(await api.get("/account/forgot"), 200, ENGLISH["forgot.title"])
    wrong = await api.post("/account/forgot", data={"email": '"><script>'})
    check_page(wrong, 422, "Enter one e-mail address", is_error=True)
    assert "&#34;&gt;&lt;script&gt;" in wrong.text
    sent = [
        await api.post("/account/forgot", data={"email": email})
        for email in (ALICE, "unknown@example.com")
    ]
    assert {(it.status_code, it.headers["location"], it.text) for it in sent} == {
        (303, "forgot?done=sent", "")
    }
    done = await api.get("/account/forgot?done=sent")
    assert re.search(r"data-wait=\"60\">Send again<", done.text)
    check_page(done, 200, ENGLISH["forgot.done"])
    assert "u***@example.com" in done.text
    assert "unknown@example.com" in main_of(done), "to send it again"
    assert await mail_kinds(api.services) == ["reset"]


async def test_an_address_is_confirmed_with_the_password(api: Client) -> None:
    await api.create_user(ALICE, name="Alice")
    await api.post("/email/confirm/request", json={"email": ALICE})
    form = {"token": await secret_in(api.services, "confirm", ALICE), "action": "go"}
    empty = await api.post("/account/confirm", data={**form, "password": ""})
    check_page(empty, 422, ENGLISH["password_needed"], is_error=True)
    wrong = await api.post("/account/confirm", data={**form, "password": OTHER})
    check_page(wrong, 403, ENGLISH["wrong_password"], is_error=True)
    done = await api.post(
        "/account/confirm", data={**form, "password": PASSWORD}, follow_redirects=True
    )
    check_page(done, 200, ENGLISH["confirm.done"])
    user = await api.services.accounts.profiles.find_by_email(parse_email(ALICE))
    assert user.email_confirmed_at is not None
    assert user.name == "Alice"


async def test_a_logged_in_user_needs_no_password(api: Client) -> None:
    alice, bob = await api.create_user(ALICE), await api.create_user()
    await api.post("/email/confirm/request", json={"email": ALICE})
    form = {"token": await secret_in(api.services, "confirm", ALICE), "password": ""}
    other = await api.post("/account/confirm", data=form, headers=await sign_in(api.services, bob))
    check_page(other, 403, "Sign in to the account", is_error=True)
    headers = await sign_in(api.services, alice)
    done = await api.post("/account/confirm", data=form, headers=headers, follow_redirects=True)
    check_page(done, 200, ENGLISH["confirm.done"])
    assert (await api.get("/me", headers=headers)).json()["email_confirmed_at"] is not None


async def test_confirming_without_password_resets_the_account(api: Client) -> None:
    await api.create_user(ALICE, name="Mallory")
    await api.post("/email/confirm/request", json={"email": ALICE})
    form = {"token": await secret_in(api.services, "confirm", ALICE), "action": "without_password"}
    done = await api.post("/account/confirm", data={**form, "email": ALICE}, follow_redirects=True)
    check_page(done, 200, ENGLISH["without_password.done"])
    assert (await api.services.accounts.profiles.find_by_email(parse_email(ALICE))).name is None
    assert await mail_kinds(api.services, ALICE) == ["confirm", "reset"]


async def test_an_email_change_is_reverted(api: Client) -> None:
    alice = await api.create_user(ALICE)
    headers = await sign_in(api.services, alice)
    await api.post("/email/confirm/request", json={"email": ALICE})
    secret = await secret_in(api.services, "confirm", ALICE)
    assert (await api.post("/email/confirm", json={"token": secret}, headers=headers)).is_success
    new = "alice@example.org"
    await api.post("/me/email", json={"email": new}, headers=headers)
    secret = await secret_in(api.services, "change", new)
    assert (await api.post("/email/confirm", json={"token": secret}, headers=headers)).is_success
    secret = await secret_in(api.services, "email_changed", ALICE)
    shown = await api.get("/account/undo", params={"token": secret})
    check_page(shown, 200, ENGLISH["undo.title"])
    assert (await api.services.accounts.profiles.find(alice.id)).email == new
    done = await api.post(
        "/account/undo", data={"token": secret, "email": ALICE}, follow_redirects=True
    )
    check_page(done, 200, ENGLISH["undo.done"])
    assert (await api.services.accounts.profiles.find(alice.id)).email == ALICE


async def test_an_invitation_is_accepted(api: Client) -> None:
    services = api.services
    user = await services.accounts.registration.create(parse_email(ALICE), None)
    async with services.database.transaction() as store:
        await EmailTokens(services.database, services.mail, services.settings).send(
            store, user, MailKind.INVITATION
        )
    secret = await secret_in(services, "invitation", ALICE)
    form = {"token": secret, "password": PASSWORD}
    done = await api.post("/account/invitation", data=form, follow_redirects=True)
    check_page(done, 200, ENGLISH["invitation.done"])
    body = {"email": ALICE, "password": PASSWORD}
    assert (await api.post("/login", json=body)).status_code == 200


@pytest.mark.parametrize("name", PAGES)
async def test_an_invalid_link_shows_an_error(api: Client, name: str) -> None:
    hostile = '"><img src=x>\u200b가'
    for token in ("", "x", "x" * 43, "x" * 201, hostile):
        shown = await api.get(f"/account/{name}", params={"token": token})
        check_page(shown, 400, ENGLISH["invalid_one_time_secret"], is_error=True)
        assert "<img" not in shown.text
        assert 'type="password"' not in shown.text
        assert f"<h1>{ENGLISH[f'{name}.title']}</h1>" in shown.text
    for token in ("", "x", "x" * 43, hostile, "x" * 300):
        form = {"token": token, "password": OTHER, "new_password": OTHER, "email": ALICE}
        sent = await api.post(f"/account/{name}", data=form)
        check_page(sent, 400, ENGLISH["invalid_one_time_secret"], is_error=True)


@pytest.mark.parametrize("name", [*PAGES, "forgot"])
async def test_cross_origin_forms_are_refused(api: Client, name: str) -> None:
    form = {"token": "x" * 43, "email": ALICE, "password": OTHER}
    for headers in (
        {"sec-fetch-site": "cross-site", "origin": "https://evil.example"},
        {"sec-fetch-site": "same-site", "origin": "http://sibling.127.0.0.1"},
        {"origin": "null"},
    ):
        answer = await api.post(f"/account/{name}", data=form, headers=headers)
        check_page(answer, 403, ENGLISH["foreign_origin"], is_error=True)
    assert await sent_mail(api.services) == []
    headers = {"sec-fetch-site": "same-origin", "origin": "null"}
    own = await api.post(f"/account/{name}", data=form, headers=headers, follow_redirects=True)
    assert own.status_code in {200, 400}
    assert own.headers["content-type"].startswith("text/html")
    assert (await api.post(f"/account/{name}", json=form)).status_code == 415


async def test_password_attempts_are_limited(api: Client) -> None:
    await api.create_user(ALICE)
    await api.post("/email/confirm/request", json={"email": ALICE})
    form = {"token": await secret_in(api.services, "confirm", ALICE)}
    for number in range(10):
        sent = await api.post("/account/confirm", data={**form, "password": f"guess {number}"})
        assert sent.status_code == 403
    sent = await api.post("/account/confirm", data={**form, "password": PASSWORD})
    check_page(sent, 429, "Too many attempts. Try again in", is_error=True)
    assert int(sent.headers["retry-after"]) > 0


async def test_pages_are_translated(api: Client) -> None:
    shown = await api.get("/account/forgot", headers={"accept-language": "ko-KR,ko;q=0.9,en;q=0.8"})
    check_page(shown, 200, KOREAN["forgot.title"])
    assert shown.headers["content-language"] == "ko"
    assert '<html lang="ko">' in shown.text


async def test_pages_can_be_left_out(make_settings: SettingsFactory) -> None:
    auth = AuthAPI(make_settings())
    app = FastAPI(lifespan=auth.lifespan)
    auth.install(app, include=["me", "recovery"])
    async with client(app) as api:
        assert (await api.get("/account/forgot")).status_code == 404
        assert (await api.post("/password/forgot", json={"email": ALICE})).status_code == 202
    async with client(create_app(make_settings(mail_url="none:"))) as api:
        assert (await api.get("/account/forgot")).status_code == 404


async def test_get_and_head_change_nothing(api: Client) -> None:
    await api.create_user(ALICE)
    secret = await reset_secret(api)
    async with api.services.database.read() as store:
        before = await store.users.find_by_email(ALICE), await sent_mail(api.services)
    for name in (*PAGES, "forgot"):
        for method in ("GET", "HEAD"):
            await api.request(method, f"/account/{name}", params={"token": secret})
    async with api.services.database.read() as store:
        assert (await store.users.find_by_email(ALICE), await sent_mail(api.services)) == before
    form = {"token": secret, "new_password": OTHER}
    done = await api.post("/account/reset", data=form, follow_redirects=True)
    check_page(done, 200, ENGLISH["reset.done"])
