"""/account/sign-up and /account/check-mail."""

import re

import pytest

from authapi import create_app
from authapi.errors import InvalidCredentials
from authapi.services.accounts.authentication import Authentication
from authapi.testing import PASSWORD, Client, client
from tests.conftest import SettingsFactory
from tests.web.pages.checks import check_page, main_of
from tests.web.pages.texts import ENGLISH, KOREAN

ALICE = "alice@example.com"
PAGE = "/account/sign-up"
FORM = {"email": ALICE, "password": PASSWORD, "name": " Alice "}


async def test_signing_up_signs_in(api_on_each: Client) -> None:
    api = api_on_each
    check_page(await api.get(PAGE), 200, "Create an account")
    sent = await api.post(PAGE, data=FORM)
    assert (sent.status_code, sent.headers["location"]) == (303, "sign-in?done=up")
    shown = await api.get("/account/sign-in?done=up", follow_redirects=True)
    check_page(shown, 200, "Your account is ready. We sent an e-mail to confirm the address.")
    user = (await api.get("/me")).json()
    assert (user["email"], user["name"], user["locale"]) == (ALICE, "Alice", "en")
    [mail] = await api.outbox()
    assert "/account/confirm?token=" in mail.as_string()


async def test_the_account_gets_the_language_of_the_page(api: Client) -> None:
    await api.post(PAGE, data=FORM, headers={"accept-language": "ko"})
    assert (await api.get("/me")).json()["locale"] == "ko"


async def test_next_is_kept(api: Client) -> None:
    shown = await api.get(f"{PAGE}?next=/reports")
    assert 'href="sign-in?next=%2Freports"' in shown.text
    sent = await api.post(PAGE, data={**FORM, "next": "/reports"})
    arrived = await api.get(f"/account/{sent.headers['location']}")
    assert arrived.headers["location"] == "/reports"


@pytest.mark.parametrize(
    ("changes", "field", "text"),
    [
        ({"email": "x"}, "email", "email_invalid"),
        ({"email": "taken@example.com"}, "email", "email_in_use"),
        ({"password": "short"}, "password", "at least 15 characters"),
        ({"password": ""}, "password", "at least 15 characters"),
        ({"password": "x" * 3000}, "password", "password_too_long"),
        ({"password": "aaaaaaaaaaaaaaaaaaaa"}, "password", ""),
        ({"name": "x" * 201}, "name", "name_invalid"),
        ({"name": "a\u2028b"}, "name", "name_invalid"),
    ],
    ids=range(8),
)
async def test_a_field_says_what_is_wrong(
    api: Client, changes: dict[str, str], field: str, text: str
) -> None:
    await api.create_user("taken@example.com")
    form = {**FORM, **changes}
    wrong = await api.post(PAGE, data=form)
    check_page(wrong, 422, ENGLISH.get(text, text), is_error=True)
    assert re.search(rf'id="{field}"[^>]*aria-invalid="true"', wrong.text)
    assert PASSWORD not in wrong.text
    if field != "email":
        assert f'value="{ALICE}"' in wrong.text, "what was typed is kept"
    assert (await api.get("/me")).status_code == 401


async def test_an_account_that_cannot_sign_in_at_once_is_not_lost(
    api: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object, **__: object) -> None:
        raise InvalidCredentials

    monkeypatch.setattr(Authentication, "authenticate", refuse)
    sent = await api.post(PAGE, data=FORM, follow_redirects=True)
    check_page(sent, 200, "Your account is ready. Sign in with your password.")
    assert f'value="{ALICE}"' in main_of(sent)


async def test_confirmation_says_the_same_for_every_address(
    make_settings: SettingsFactory,
) -> None:
    async with client(create_app(make_settings(registration="confirm"))) as api:
        await api.create_user("taken@example.com")
        answers = []
        for email in (ALICE, "taken@example.com"):
            api.cookies.clear()
            sent = await api.post(PAGE, data={**FORM, "email": email})
            answers.append((sent.status_code, sent.headers["location"], sent.text))
            shown = await api.get("/account/check-mail")
            check_page(shown, 200, "If the address can have an account")
            assert f"{email[0]}***@example.com" in shown.text
            assert 'data-wait="60"' in shown.text
        assert set(answers) == {(303, "check-mail", "")}
        again = await api.post("/account/check-mail", data={"email": ALICE}, follow_redirects=True)
        check_page(again, 200, "another e-mail is on its way")
        wrong = await api.post("/account/check-mail", data={"email": "x"})
        check_page(wrong, 422, ENGLISH["email_invalid"], is_error=True)
        assert (await api.get("/me")).status_code == 401


async def test_the_address_is_asked_for_without_the_cookie(api: Client) -> None:
    for cookie in ("", "authapi-address=%%%", "authapi-address=4pi6Cg; authapi-address=4pi6"):
        shown = await api.get("/account/check-mail", headers={"cookie": cookie} if cookie else {})
        check_page(shown, 200, "E-mail address")
        assert 'id="email"' in shown.text
        assert "data-wait" not in shown.text


@pytest.mark.parametrize("registration", ["invite", "closed"])
async def test_closed_registration_says_so(
    make_settings: SettingsFactory, registration: str
) -> None:
    settings = make_settings(registration=registration, support_url="https://acme.example/help")
    async with client(create_app(settings)) as api:
        for answer in (await api.get(PAGE), await api.post(PAGE, data=FORM)):
            check_page(answer, 403, "Accounts are made by invitation.")
            assert 'href="https://acme.example/help"' in main_of(answer)
        assert "Create an account" not in (await api.get("/account/sign-in")).text


async def test_user_names(make_settings: SettingsFactory) -> None:
    async with client(create_app(make_settings(login_identifier="username"))) as api:
        assert 'id="username"' in (await api.get(PAGE)).text
        missing = await api.post(PAGE, data=FORM)
        assert missing.status_code == 422
        assert re.search(r'id="username"[^>]*aria-invalid="true"', missing.text)
        sent = await api.post(PAGE, data={**FORM, "username": "alice"})
        assert sent.headers["location"] == "sign-in?done=up"
        other = {**FORM, "email": "b@example.com", "username": "Alice"}
        taken = await api.post(PAGE, data=other)
        check_page(taken, 409, ENGLISH["username_taken"], is_error=True)
        wrong = await api.post(PAGE, data={**other, "username": "a b"})
        check_page(wrong, 422, ENGLISH["username_invalid"], is_error=True)


async def test_the_page_is_translated(api: Client) -> None:
    wrong = await api.post(PAGE, data={**FORM, "email": "x"}, headers={"accept-language": "ko"})
    check_page(wrong, 422, KOREAN["email_invalid"], is_error=True)
