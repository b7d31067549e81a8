"""/account/security/app and codes: setting up an authenticator app, and recovery codes."""

import re
from collections.abc import AsyncIterator
from uuid import UUID

import httpx
import pyotp
import pytest

from authapi import Settings, create_app
from authapi.clock import now
from authapi.domain.user import User
from authapi.testing import PASSWORD, Client, client
from tests.clocks import travel_to
from tests.second_factors import PERIOD, add_second_factors
from tests.web.logins import sign_in
from tests.web.pages.checks import check_page, main_of
from tests.web.routes.pages.people import ALICE, STALE, banner_of, follow, sign_in_by_page

PAGE = "/account/security/app"
CODES = "/account/security/codes"
GO = {"go": "on"}
"""A form without fields. httpx sends no empty form."""


@pytest.fixture
async def api(database_url: str) -> AsyncIterator[Client]:
    async with client(create_app(Settings(database_url=database_url))) as found:  # type: ignore[arg-type]  # pydantic parses it
        user = await found.create_user(ALICE)
        await found.services.accounts.email_changes.confirm_for_operator(user.id)
        await sign_in_by_page(found)
        yield found


async def account(api: Client) -> User:
    """The account of the caller."""
    return await api.services.accounts.profiles.find(UUID((await api.get("/me")).json()["id"]))


def app_of(page: httpx.Response) -> pyotp.TOTP:
    """The authenticator app, with the key of the page."""
    [key] = re.findall(r'<p class="key"><code>([A-Z2-7 ]+)</code>', page.text)
    assert all(len(group) == 4 for group in key.split())
    return pyotp.TOTP(key.replace(" ", ""))


def codes_of(page: httpx.Response) -> list[str]:
    """The recovery codes of the page."""
    [shown] = re.findall(r"<pre.*?</pre>", page.text, re.DOTALL)
    found = re.findall(r"\b[0-9A-Z]{4}(?:-[0-9A-Z]{4}){3}\b", shown)
    assert len(found) == 10
    return found


async def test_an_app_is_set_up(api: Client) -> None:
    user = await account(api)
    await sign_in(api.services, user)
    cookie = api.cookies["authapi"]
    check_page(await api.get(PAGE), 200, "You need an app that shows codes")
    shown = await api.post(PAGE, data=GO)
    check_page(shown, 200, "Scan this with the app")
    # All of the code is visible at any size.
    [size] = re.findall(r'<svg [^>]*viewBox="0 0 (\d+) \1"', shown.text)
    assert f'<g transform="scale(4)"><path fill="#fff" d="M0 0h{int(size) // 4}v' in shown.text
    app = app_of(shown)
    confirmed = await api.post(PAGE, data={"action": "confirm", "code": app.at(now())})
    assert confirmed.status_code == 200
    assert api.cookies["authapi"] != cookie
    codes = codes_of(confirmed)
    assert banner_of(confirmed).startswith("Your authenticator app is set up.")
    [download] = re.findall(r'href="(data:text/plain[^"]*)" download="([^"]+)"', confirmed.text)
    assert all(code in download[0] for code in codes)
    assert download[1].endswith("-recovery-codes.txt")
    # The other login has ended, and this one has proved the app.
    assert len(await api.services.sessions.list_for_user(user.id)) == 1
    assert "mfa" in (await api.get("/me/identity")).json()["amr"]
    page = await api.get("/account/security")
    assert "10 codes left" in page.text
    # The codes are nowhere any longer.
    assert not any(code in page.text for code in codes)


async def test_a_wrong_code_is_asked_for_again_without_the_key(api: Client) -> None:
    app = app_of(await api.post(PAGE, data=GO))
    shown = {app.at(now(), counter_offset=step) for step in range(-3, 4)}
    wrong = next(text for text in map("{:06}".format, range(10)) if text not in shown)
    for code, status, text in [
        ("", 422, "Enter the six digits"),
        (wrong, 403, "That code is not right."),
    ]:
        refused = await api.post(PAGE, data={"action": "confirm", "code": code})
        check_page(refused, status, text, is_error=True)
        assert app.secret[:4] not in main_of(refused)
    done = await api.post(PAGE, data={"action": "confirm", "code": app.at(now())})
    assert codes_of(done)
    # Again: the app counts already.
    again = await api.post(PAGE, data={"action": "confirm", "code": app.at(now())})
    assert banner_of(await follow(api, again)) == "Your authenticator app is set up."
    check_page(await api.post(PAGE, data=GO), 409, "This was added already.", is_error=True)


async def test_a_code_without_an_app_begins_again(api: Client) -> None:
    answer = await api.post(PAGE, data={"action": "confirm", "code": "123456"})
    assert answer.headers["location"] == "../security/app?done=now"
    assert banner_of(await follow(api, answer)).startswith("That key is not valid any longer.")


async def test_setting_up_needs_a_recent_login(api: Client) -> None:
    with travel_to(now() + STALE):
        assert 'id="password"' in (await api.get(PAGE)).text
        check_page(
            await api.post(PAGE, data=GO),
            401,
            "Enter your password to go on.",
            is_error=True,
        )
        wrong = await api.post(PAGE, data={"password": "wrong"})
        check_page(wrong, 403, "The password is wrong.", is_error=True)
        shown = await api.post(PAGE, data={"password": PASSWORD})
        confirm = {"action": "confirm", "code": app_of(shown).at(now())}
        assert codes_of(await api.post(PAGE, data=confirm))


async def test_the_address_is_confirmed_first(database_url: str) -> None:
    async with client(create_app(Settings(database_url=database_url))) as api:  # type: ignore[arg-type]  # pydantic parses it
        await api.create_user(ALICE)
        await sign_in_by_page(api)
        assert "Confirm your e-mail address first." in (await api.get("/account/security")).text
        refused = await api.post(PAGE, data=GO)
        check_page(refused, 403, "Confirm your e-mail address first.", is_error=True)


async def test_the_app_is_removed(api: Client) -> None:
    factors = await add_second_factors(api.services, await account(api))
    api.cookies.clear()
    await api.post("/account/sign-in", data={"email": ALICE, "password": PASSWORD})
    await api.post("/account/sign-in/second", data={"code": factors.code()})
    check_page(await api.get(f"{PAGE}/remove"), 200, "It is your last second step")
    page = await follow(api, await api.post(f"{PAGE}/remove", data=GO))
    assert banner_of(page) == "Your authenticator app is removed."
    assert (await api.get("/me/factors")).json()["mfa"] is False
    assert (await api.post(f"{PAGE}/remove", data=GO)).status_code == 303


async def test_new_codes_replace_the_old_ones(api: Client) -> None:
    with travel_to(now()) as clock:
        factors = await add_second_factors(api.services, await account(api))
        # This login has not proved the app.
        assert 'id="code"' in (await api.get(CODES)).text
        refused = await api.post(CODES, data=GO)
        check_page(refused, 401, "Prove your second step", is_error=True)
        made = await api.post(CODES, data={"code": factors.code()})
        codes = codes_of(made)
        assert not set(codes) & set(factors.codes)
        assert "no-store" in made.headers["cache-control"]
        clock.shift(PERIOD)
        assert 'id="code"' not in (await api.get(CODES)).text
