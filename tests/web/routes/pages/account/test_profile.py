"""/account: the profile, messages after its forms, and who may see it."""

import re
from uuid import UUID

import pytest
from pydantic import SecretStr

from authapi import create_app
from authapi.clock import now
from authapi.crypto.secrets import hash_secret
from authapi.domain.session import FLASH, SessionKind
from authapi.testing import PASSWORD, Client, client
from tests.clocks import travel_to
from tests.conftest import SettingsFactory
from tests.second_factors import add_second_factors
from tests.web.pages.checks import check_page, main_of
from tests.web.routes.pages.people import (
    ALICE,
    STALE,
    banner_of,
    fields_of,
    follow,
    sign_in_by_page,
)

PAGE = "/account"
NEW = "new@example.org"


async def test_the_profile_has_the_facts_of_the_account(api: Client) -> None:
    page = await api.get(PAGE)
    check_page(page, 200, ALICE)
    assert 'aria-current="page">Profile' in page.text
    assert f"{now():%Y}" in main_of(page)
    assert page.text.count("<h1>") == 1


@pytest.mark.parametrize("path", ["", "/security", "/devices", "/security/app", "/prove"])
async def test_a_person_who_is_signed_out_signs_in_first(api: Client, path: str) -> None:
    api.cookies.clear()
    shown = await api.get(PAGE + path)
    assert shown.status_code == 303
    led, kept = shown.url.join(shown.headers["location"]), f"/account{path}"
    assert led.path == "/account/sign-in"
    assert led.params.get("next") == (None if path == "/prove" else kept)
    if path != "/security":
        sent = await api.post(PAGE + path, data={"go": "on"})
        assert sent.status_code == 303
        assert "done=ended" in sent.headers["location"]


@pytest.mark.parametrize("path", ["", "/security/password", "/devices", "/security/app"])
async def test_forms_of_a_foreign_origin_are_refused(api: Client, path: str) -> None:
    for headers in ({"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site"}):
        for _ in range(2):
            answer = await api.post(PAGE + path, data={"action": "name"}, headers=headers)
            check_page(answer, 403, "The form was not sent from this website", is_error=True)
            api.cookies.clear()  # also without a cookie
        await sign_in_by_page(api)


async def test_the_name_is_changed_once_for_each_version(api: Client) -> None:
    shown = await api.get(PAGE)
    fields = fields_of(shown, "name")
    page = await follow(api, await api.post(PAGE, data={**fields, "name": "  Alice  "}))
    assert banner_of(page) == "Your name is saved."
    assert (await api.get("/me")).json()["name"] == "Alice"
    # The message is shown once.
    assert banner_of(await api.get(f"{PAGE}?done=now")) == ""
    # The form of another tab is older than that change.
    stale = await api.post(PAGE, data={**fields, "name": "Bob"})
    check_page(stale, 412, "This was changed meanwhile", is_error=True)
    assert (await api.get("/me")).json()["name"] == "Alice"
    cleared = await api.post(PAGE, data={**fields_of(page, "name"), "name": ""})
    assert "Not given" in (await follow(api, cleared)).text


async def test_a_wrong_name_stays_in_its_form(api: Client) -> None:
    fields = fields_of(await api.get(PAGE), "name")
    refused = await api.post(PAGE, data={**fields, "name": "A\u202eB<b>" + "x" * 200})
    check_page(refused, 422, "Enter a name of at most 200 characters", is_error=True)
    assert '<details class="change" open>' in refused.text
    assert "B&lt;b&gt;" in refused.text


async def test_the_language_is_that_of_the_account(api: Client) -> None:
    fields = fields_of(await api.get(PAGE), "language")
    page = await follow(api, await api.post(PAGE, data={**fields, "locale": "ko"}))
    assert '<html lang="ko">' in page.text
    assert (await api.get("/me")).json()["locale"] == "ko"
    wrong = await api.post(PAGE, data={**fields_of(page, "language"), "locale": "xx"})
    assert wrong.status_code == 422
    page = await follow(
        api, await api.post(PAGE, data={**fields_of(page, "language"), "locale": ""})
    )
    assert '<html lang="en">' in page.text
    assert (await api.get("/me")).json()["locale"] is None


async def test_a_new_address_waits_for_its_link(api: Client) -> None:
    asked = await api.post(PAGE, data={"action": "email", "email": f" {NEW} "})
    page = await follow(api, asked)
    assert banner_of(page).startswith("We sent an e-mail to the new address.")
    [mail] = [it for it in await api.outbox() if it["to"] == NEW]
    page = await api.get(PAGE)
    assert "Waits for its link" in page.text
    assert NEW in main_of(page)
    body = mail.get_body(("plain",))
    assert body is not None
    [token] = re.findall(r"token=([\w-]{43})", body.get_content())
    assert (await api.post("/email/confirm", json={"token": token[:-1] + "_"})).status_code == 400
    cancelled = await follow(api, await api.post(PAGE, data={"action": "cancel"}))
    assert banner_of(cancelled) == "The change of your e-mail address is cancelled."
    assert NEW not in main_of(cancelled)
    assert (await api.post("/email/confirm", json={"token": token})).status_code == 400
    # Twice is as good as once.
    assert (await api.post(PAGE, data={"action": "cancel"})).status_code == 303


async def test_the_mail_to_confirm_an_address_is_sent_again(api: Client) -> None:
    count = len([it for it in await api.outbox() if it["to"] == ALICE])
    page = await api.get(PAGE)
    if "Not confirmed" not in page.text:
        pytest.fail("the address is confirmed already")
    sent = await follow(api, await api.post(PAGE, data={"action": "confirm"}))
    assert banner_of(sent).startswith("Another e-mail to confirm")
    assert len([it for it in await api.outbox() if it["to"] == ALICE]) == count + 1


async def test_a_stale_login_gives_the_password_in_the_same_form(api: Client) -> None:
    with travel_to(now() + STALE):
        shown = await api.get(PAGE)
        assert 'id="password"' in shown.text
        form = {"action": "email", "email": NEW}
        for password, status, text in [
            (None, 401, "Enter your password to go on."),
            ("", 422, "Enter your password."),
            ("wrong", 403, "The password is wrong."),
        ]:
            data = form if password is None else {**form, "password": password}
            refused = await api.post(PAGE, data=data)
            check_page(refused, status, text, is_error=True)
            assert f'value="{NEW}"' in refused.text
        cookie = api.cookies["authapi"]
        done = await api.post(PAGE, data={**form, "password": PASSWORD})
        page = await follow(api, done)
        assert banner_of(page).startswith("We sent an e-mail")
        # The session has another secret, and counts as a recent login.
        assert api.cookies["authapi"] != cookie
        assert 'id="password"' not in page.text


async def test_a_refused_form_keeps_the_renewed_login(api: Client) -> None:
    """The password is right, so the cookie is replaced, although the form is refused then."""
    with travel_to(now() + STALE):
        fields = {"action": "email", "email": NEW, "password": PASSWORD}
        refused = await api.post(PAGE, data={**fields, "email": "no address"})
        assert refused.status_code == 422
        assert (await api.get(PAGE)).status_code == 200
        assert (await follow(api, await api.post(PAGE, data=fields))).status_code == 200


async def test_a_login_without_the_second_step_proves_it(api: Client) -> None:
    user = (await api.get("/me")).json()
    alice = await api.services.accounts.profiles.find(UUID(user["id"]))
    factors = await add_second_factors(api.services, alice)
    shown = await api.get(PAGE)
    assert 'id="code"' in shown.text
    form = {"action": "email", "email": NEW}
    wrong = await api.post(PAGE, data={**form, "code": factors.wrong_code()})
    check_page(wrong, 403, "That code is not right.", is_error=True)
    none = await api.post(PAGE, data={**form, "code": "abc def"})
    assert none.status_code in (403, 422)
    done = await api.post(PAGE, data={**form, "code": factors.code()})
    assert banner_of(await follow(api, done)).startswith("We sent an e-mail")
    assert "mfa" in (await api.get("/me/identity")).json()["amr"]


async def test_messages_are_not_part_of_the_session_data_of_the_api(api: Client) -> None:
    fields = fields_of(await api.get(PAGE), "name")
    await api.post(PAGE, data={**fields, "name": "Alice"})
    assert (await api.get("/me/session")).json()["data"] == {}
    # The API stores no message, and removes none.
    for made_up in (["x"], "password 999", None):
        answer = await api.patch("/me/session", json={"_flash": made_up})
        assert answer.status_code == 422
    assert banner_of(await api.get(f"{PAGE}?done=now")) == "Your name is saved."


@pytest.mark.parametrize("stored", [["x"], "<b>", "name x", "password -1"])
async def test_an_unknown_message_shows_nothing(api: Client, stored: object) -> None:
    """Such as one that another release has left."""
    secret = hash_secret(api.cookies["authapi"])
    identity = await api.services.sessions.identify_by_secret(
        secret, SessionKind.SESSION, strategy="session"
    )
    assert identity is not None
    await api.services.sessions.merge_data(identity, {FLASH: stored})
    assert banner_of(await api.get(f"{PAGE}?done=now")) == ""


async def test_a_full_session_keeps_the_message(api: Client) -> None:
    await api.patch("/me/session", json={"x": "y" * 4085})
    fields = fields_of(await api.get(PAGE), "name")
    page = await follow(api, await api.post(PAGE, data={**fields, "name": "Alice"}))
    assert (page.status_code, banner_of(page)) == (200, "Your name is saved.")
    assert (await api.get("/me")).json()["name"] == "Alice"


async def test_an_unknown_action_changes_nothing(api: Client) -> None:
    assert (await api.post(PAGE, data={"action": "?"})).status_code == 303


async def test_without_mail_the_address_stays(make_settings: SettingsFactory) -> None:
    async with client(create_app(make_settings(mail_url=SecretStr("none:")))) as api:
        await api.create_user(ALICE)
        await sign_in_by_page(api)
        page = await api.get(PAGE)
        assert 'value="email"' not in page.text
        refused = await api.post(PAGE, data={"action": "email", "email": NEW})
        assert refused.status_code == 403
