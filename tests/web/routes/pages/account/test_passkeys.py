"""Passkeys on pages: adding, renaming, removing, signing in, the second step and proving again.

The soft authenticator stands for the browser, and the test for the script.
"""

import json
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from authapi import Settings, create_app
from authapi.clock import now
from authapi.testing import PASSWORD, Client, client
from tests.clocks import travel_to
from tests.conftest import SettingsFactory
from tests.soft_authenticator import SoftAuthenticator
from tests.web.pages.checks import check_page
from tests.web.routes.pages.people import (
    ALICE,
    STALE,
    banner_of,
    follow,
    sign_in_by_page,
    without_cookies,
)

PAGE = "/account/security/passkeys"
SIGN_IN = "/account/sign-in"


@pytest.fixture
async def api(database_url: str) -> AsyncIterator[Client]:
    async with client(create_app(Settings(database_url=database_url))) as found:  # type: ignore[arg-type]  # pydantic parses it
        user = await found.create_user(ALICE)
        await found.services.accounts.email_changes.confirm_for_operator(user.id)
        await sign_in_by_page(found)
        yield found


async def options(api: Client, path: str) -> dict[str, Any]:
    """What the script gets from the API."""
    answer = await api.post(path, json={})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def add(api: Client, passkey: SoftAuthenticator, name: str = "My laptop") -> httpx.Response:
    """Send the form of a new passkey."""
    created = passkey.create(await options(api, "/me/factors/passkeys/options"))
    return await api.post(PAGE, data={"name": name, "credential": json.dumps(created)})


async def test_the_first_passkey_shows_the_recovery_codes(api: Client) -> None:
    shown = await api.get(PAGE)
    check_page(shown, 200, "Passkeys need JavaScript and a browser")
    assert 'data-options="../../me/factors/passkeys/options"' in shown.text
    added = await add(api, SoftAuthenticator())
    check_page(without_cookies(added), 200, "Each code signs you in once")
    assert len(set(re.findall(r"\b[0-9A-Z]{4}(?:-[0-9A-Z]{4}){3}\b", added.text))) == 10
    second = await follow(api, await add(api, SoftAuthenticator(), "Phone"))
    assert banner_of(second) == "Your passkey is added."
    assert "My laptop" in second.text
    assert "Phone" in second.text


ORIGINS = re.compile('<meta name="passkey-origins" content="([^"]*)">')


@pytest.mark.parametrize(
    ("changes", "origins"),
    [
        ({}, "http://localhost"),
        ({"public_url": "https://id.example.com"}, "https://id.example.com"),
        (
            {
                "public_url": "https://id.example.com",
                "passkey_rp_id": "example.com",
                "passkey_origins": ("https://shop.example.com",),
            },
            "https://id.example.com https://shop.example.com",
        ),
    ],
    ids=range(3),
)
async def test_the_script_knows_where_passkeys_work(
    make_settings: SettingsFactory, changes: dict[str, Any], origins: str
) -> None:
    """At another origin, such as 127.0.0.1, it asks the API for nothing."""
    async with client(create_app(make_settings(**changes))) as api:
        shown = await api.get(SIGN_IN)
        assert ORIGINS.findall(shown.text) == [origins]
        assert shown.text.index("passkey-origins") < shown.text.index("passkeys.js")
        assert 'data-elsewhere="Passkeys need a domain: open {url}"' in shown.text
        assert '<p class="or" data-passkeys hidden>or</p>' in shown.text
        assert not ORIGINS.findall((await api.get("/account/sign-up")).text)


async def test_a_passkey_is_renamed_and_removed(api: Client) -> None:
    await add(api, SoftAuthenticator())
    page = await api.get("/account/security")
    [path] = re.findall(r'href="(security/passkeys/[0-9a-f-]{36})"', page.text)
    url = f"/account/{path}"
    check_page(await api.get(url), 200, 'value="My laptop"')
    refused = await api.post(url, data={"name": " "})
    check_page(refused, 422, "Enter a name of at most 100 characters", is_error=True)
    renamed = await follow(api, await api.post(url, data={"name": "Desk"}))
    assert banner_of(renamed) == "That passkey has its new name."
    assert "Desk" in renamed.text
    removed = await follow(api, await api.post(url, data={"action": "remove"}))
    assert banner_of(removed) == "That passkey is removed."
    # It is gone, in this tab and in others.
    for answer in (
        await api.get(url),
        await api.post(url, data={"action": "remove"}),
        await api.post(url, data={"name": "Desk"}),
    ):
        assert answer.status_code == 303


@pytest.mark.parametrize("text", ["", "{}", "null", "[1]", '{"id": "x"}', "\ud7ff"])
async def test_what_is_no_passkey_is_refused(api: Client, text: str) -> None:
    sent = await api.post(PAGE, data={"name": "x", "credential": text})
    check_page(sent, 422, "The request was not accepted.", is_error=True)
    for path in (SIGN_IN, "/account/prove"):
        if text:
            sent = await api.post(path, data={"credential": text})
            check_page(sent, 422, "The request was not accepted.", is_error=True)


async def test_adding_asks_a_person_to_prove_who_they_are(api: Client) -> None:
    with travel_to(now() + STALE):
        page = await api.get(PAGE)
        assert "data-passkey" not in page.text
        assert 'href="../prove?next=%2Faccount%2Fsecurity%2Fpasskeys"' in page.text
        sent = await api.post(PAGE, data={"name": "x", "credential": "{}"})
        assert sent.status_code == 422


async def test_a_passkey_signs_in(api: Client) -> None:
    passkey = SoftAuthenticator()
    await add(api, passkey)
    api.cookies.clear()
    shown = await api.get(SIGN_IN)
    assert 'autocomplete="username webauthn"' in shown.text
    assert 'data-options="../login/passkey/options"' in shown.text
    answer = passkey.get(await options(api, "/login/passkey/options"))
    form = {"credential": json.dumps(answer), "email": "", "password": "", "next": "/x"}
    sent = await api.post(SIGN_IN, data={**form, "remember": "yes"})
    assert (sent.status_code, sent.headers["location"]) == (303, "sign-in?done=in&next=%2Fx")
    assert any("Max-Age=" in it for it in sent.headers.get_list("set-cookie"))
    identity = (await api.get("/me/identity")).json()
    assert identity["acr"] == "phr"
    # The challenge is used up.
    again = await api.post(SIGN_IN, data=form)
    check_page(again, 401, "That passkey was not accepted.", is_error=True)
    assert "data-unknown" not in again.text


async def test_an_unknown_passkey_is_named_to_the_browser(api: Client) -> None:
    passkey = SoftAuthenticator()
    await add(api, passkey)
    url = re.findall(r"security/passkeys/[0-9a-f-]{36}", (await api.get("/account/security")).text)[
        0
    ]
    await api.post(f"/account/{url}", data={"action": "remove"})
    api.cookies.clear()
    answer = passkey.get(await options(api, "/login/passkey/options"))
    sent = await api.post(SIGN_IN, data={"credential": json.dumps(answer)})
    check_page(sent, 401, "That passkey was not accepted.", is_error=True)
    assert f'data-unknown="{answer["id"]}" data-rp="localhost"' in sent.text


async def test_a_passkey_is_the_second_step(api: Client) -> None:
    passkey = SoftAuthenticator()
    await add(api, passkey)
    api.cookies.clear()
    sent = await api.post(SIGN_IN, data={"email": ALICE, "password": PASSWORD, "next": "/x"})
    step = await follow(api, sent)
    check_page(step, 200, "Use a passkey")
    assert 'name="code"' not in step.text  # the account has no app
    assert 'name="recovery_code"' in step.text
    wrong = SoftAuthenticator()
    wrong.credential_id = passkey.credential_id
    asked = await options(api, "/login/second-factor/options")
    answer = await api.post(f"{SIGN_IN}/second", data={"credential": json.dumps(wrong.get(asked))})
    check_page(answer, 401, "That code is not right.", is_error=True)
    asked = await options(api, "/login/second-factor/options")
    data = {"credential": json.dumps(passkey.get(asked)), "next": "/x"}
    done = await api.post(f"{SIGN_IN}/second", data=data)
    assert (done.status_code, done.headers["location"]) == (303, "../sign-in?done=in&next=%2Fx")
    assert (await api.get("/me")).status_code == 200


async def test_a_passkey_proves_a_login_again(api: Client) -> None:
    passkey = SoftAuthenticator()
    await add(api, passkey)
    with travel_to(now() + STALE):
        shown = await api.get("/account/prove?next=/x")
        check_page(shown, 200, "Use a passkey")
        assert 'name="password"' in shown.text
        answer = passkey.get(await options(api, "/me/reauthenticate/options"))
        data = {"credential": json.dumps(answer), "next": "/x"}
        proved = await api.post("/account/prove", data=data)
        assert (proved.status_code, proved.headers["location"]) == (303, "/x")
        # Nothing is missing any longer.
        assert (await api.get("/account/prove?next=/x")).headers["location"] == "/x"
        again = await api.post("/account/prove", data=data)
        assert again.status_code in (303, 403)


async def test_pages_offer_no_passkeys_that_do_not_work(make_settings: SettingsFactory) -> None:
    async with client(create_app(make_settings(passkeys="off"))) as api:
        await api.create_user(ALICE)
        assert "passkey" not in (await api.get(SIGN_IN)).text
        await sign_in_by_page(api)
        assert "Passkeys" not in (await api.get("/account/security")).text
        assert (await api.get(PAGE)).status_code == 303
    async with client(create_app(make_settings(passkeys="second_factor"))) as api:
        assert "data-passkey" not in (await api.get(SIGN_IN)).text
