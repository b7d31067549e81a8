"""/account/security and its password page."""

from datetime import timedelta
from uuid import UUID

import pytest

from authapi import create_app
from authapi.clock import now
from authapi.domain.events import EventType
from authapi.domain.session import FLASH
from authapi.testing import PASSWORD, Client, client
from tests.clocks import travel_to
from tests.conftest import SettingsFactory
from tests.second_factors import add_second_factors
from tests.web.logins import sign_in
from tests.web.pages.checks import check_page, main_of
from tests.web.routes.pages.account.history import QUESTION, add, items
from tests.web.routes.pages.people import ALICE, STALE, banner_of, follow, sign_in_by_page

PAGE = "/account/security"
NEW = "another horse, another battery"


async def test_the_page_has_the_latest_events(api: Client) -> None:
    page = await api.get(PAGE)
    check_page(page, 200, "Recent events")
    assert main_of(page).count("Signed in to your account") == 1
    assert 'aria-current="page">Security' in page.text


async def test_refused_attempts_ask_as_the_activity_does(api: Client) -> None:
    user = await api.services.accounts.profiles.find(UUID((await api.get("/me")).json()["id"]))
    await add(api, user.id, EventType.LOGIN_REFUSED, now() - timedelta(days=1))
    await add(api, user.id, EventType.LOGIN_REFUSED, now() - timedelta(days=31))
    page, activity = await api.get(PAGE), await api.get("/account/activity")
    assert items(page) == items(activity)
    assert [QUESTION in item for item in items(page)] == [False, False, True, False]
    assert main_of(page).count('href="security/password">Was this not you?') == 1
    assert '<a class="inline" href="activity">Show all activity</a>' in main_of(page)


async def test_the_password_is_changed_and_the_cookie_stays(api: Client) -> None:
    user = await api.services.accounts.profiles.find(UUID((await api.get("/me")).json()["id"]))
    await sign_in(api.services, user)
    cookie = api.cookies["authapi"]
    shown = await api.get(f"{PAGE}/password")
    check_page(shown, 200, "Current password")
    data = {"current_password": PASSWORD, "new_password": NEW}
    page = await follow(api, await api.post(f"{PAGE}/password", data=data))
    assert banner_of(page).startswith("Your password is changed.")
    assert api.cookies["authapi"] != cookie
    assert len(await api.services.sessions.list_for_user(user.id)) == 1
    api.cookies.clear()
    await sign_in_by_page(api, password=NEW)


@pytest.mark.parametrize(
    ("current", "new", "status", "field", "text"),
    [
        ("wrong", NEW, 403, "current_password", "The password is wrong."),
        (PASSWORD, "short", 422, "new_password", "The password is too short."),
        (PASSWORD, PASSWORD, 422, "new_password", "The new password must differ"),
        (PASSWORD, "x" * 5000, 422, "new_password", "The password is too long."),
    ],
)
async def test_a_wrong_password_is_named_at_its_field(
    api: Client, current: str, new: str, status: int, field: str, text: str
) -> None:
    data = {"current_password": current, "new_password": new}
    refused = await api.post(f"{PAGE}/password", data=data)
    check_page(refused, status, text, is_error=True)
    assert f'id="{field}-error"' in refused.text
    assert current not in main_of(refused) or current == "wrong"


@pytest.mark.parametrize(
    ("ended", "text"),
    [
        (0, "Your password is changed."),
        (1, "Your password is changed. 1 other sign-in or access token ended."),
        (4, "Your password is changed. 4 other sign-ins and access tokens ended."),
    ],
)
async def test_the_message_counts_what_has_ended(api: Client, ended: int, text: str) -> None:
    user = await api.services.accounts.profiles.find(UUID((await api.get("/me")).json()["id"]))
    for strategy in ("session", "jwt", "token")[: max(ended - 1, 0)]:
        await sign_in(api.services, user, strategy)
    if ended:
        await api.post("/me/tokens", json={"name": "x"})
    data = {"current_password": PASSWORD, "new_password": NEW}
    assert banner_of(await follow(api, await api.post(f"{PAGE}/password", data=data))) == text


@pytest.mark.parametrize("remember", [True, False])
async def test_the_cookie_stays_as_long_as_before(api: Client, remember: bool) -> None:
    api.cookies.clear()
    form = {"email": ALICE, "password": PASSWORD} | ({"remember": "yes"} if remember else {})
    await api.post("/account/sign-in", data=form)
    data = {"current_password": PASSWORD, "new_password": NEW}
    changed = await api.post(f"{PAGE}/password", data=data)
    [cookie] = changed.headers.get_list("set-cookie")
    assert cookie.startswith("authapi=")
    assert ("; Max-Age=" in cookie) is remember


@pytest.mark.parametrize("left", [7, "x", "password x", "password 0", "unknown", "unknown 4", ""])
async def test_what_another_release_has_left_is_no_message(api: Client, left: object) -> None:
    session = UUID((await api.get("/me/session")).json()["id"])
    async with api.services.database.transaction() as store:
        await store.sessions.set_data(session, {FLASH: left})
    page = await api.get(f"{PAGE}?done=now")
    check_page(page, 200, "Security")
    assert banner_of(page) == ""


async def test_the_current_password_is_asked_for_once(api: Client) -> None:
    with travel_to(now() + STALE):
        assert 'id="password"' not in (await api.get(f"{PAGE}/password")).text


async def test_a_second_step_is_proved_before_the_password_changes(api: Client) -> None:
    user = await api.services.accounts.profiles.find(UUID((await api.get("/me")).json()["id"]))
    factors = await add_second_factors(api.services, user)
    assert 'id="code"' in (await api.get(f"{PAGE}/password")).text
    data = {"current_password": PASSWORD, "new_password": NEW}
    refused = await api.post(f"{PAGE}/password", data=data)
    check_page(refused, 401, "Prove your second step", is_error=True)
    done = await api.post(f"{PAGE}/password", data={**data, "code": factors.codes[0].lower()})
    assert banner_of(await follow(api, done)).startswith("Your password is changed.")


async def test_an_account_without_a_password_gets_a_link(api: Client) -> None:
    user = await api.services.accounts.profiles.find(UUID((await api.get("/me")).json()["id"]))
    async with api.services.database.transaction() as store:
        await store.users.lock(user.id)
        await store.users.set_password(user.id, None, at=now())
    assert "You have no password yet." in (await api.get(PAGE)).text
    assert 'id="current_password"' not in (await api.get(f"{PAGE}/password")).text
    page = await follow(api, await api.post(f"{PAGE}/password", data={"action": "mail"}))
    assert banner_of(page).startswith("An e-mail with a link")
    bodies = [mail.get_body(("plain",)) for mail in await api.outbox()]
    assert any(body and "/account/reset?token=" in body.get_content() for body in bodies)


async def test_a_login_that_is_too_weak_by_now_adds_a_second_step(
    make_settings: SettingsFactory, database_url: str
) -> None:
    settings = make_settings(mfa="optional")
    async with client(create_app(settings)) as api:
        await api.create_user(ALICE)
        await sign_in_by_page(api)
        cookies = dict(api.cookies)
    async with client(create_app(settings.model_copy(update={"mfa": "required"}))) as api:
        api.cookies.update(cookies)
        led = await api.get("/account")
        assert (led.status_code, led.headers["location"]) == (303, "account/security")
        page = await api.get(PAGE)
        check_page(page, 200, "Your account must have a second step.")
        assert (await api.get(f"{PAGE}/app")).status_code == 200
        assert (await api.post("/account/devices", data={"action": "others"})).status_code == 303
