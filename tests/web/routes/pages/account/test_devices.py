"""/account/devices: the list of logins, and signing them out."""

import html
import re
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID, uuid4

import httpx
import pytest

from authapi import Settings, create_app
from authapi.clock import now
from authapi.testing import Client, client
from tests.clocks import travel_to
from tests.web.logins import sign_in
from tests.web.pages.checks import check_page, main_of
from tests.web.routes.pages.people import ALICE, banner_of, follow, sign_in_by_page

PAGE = "/account/devices"
CHROME = "Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0"


@pytest.fixture
async def api(database_url: str) -> AsyncIterator[Client]:
    async with client(create_app(Settings(database_url=database_url))) as found:  # type: ignore[arg-type]  # pydantic parses it
        found.headers["user-agent"] = CHROME
        await found.create_user(ALICE)
        await sign_in_by_page(found)
        yield found


async def others(api: Client, count: int) -> list[str]:
    """The ids of further logins, with the strategies in turn."""
    user = await api.services.accounts.profiles.find(UUID((await api.get("/me")).json()["id"]))
    for number in range(count):
        await sign_in(api.services, user, ("session", "token", "jwt")[number % 3])
    found = await api.services.sessions.list_for_user(user.id)
    current = (await api.get("/me/session")).json()["id"]
    return [str(session.id) for session in found if str(session.id) != current]


def rows_of(page: httpx.Response) -> list[str]:
    """The devices of the page."""
    return main_of(page).partition('<ul class="devices">')[2].split("<li>")[1:]


async def test_the_current_device_comes_first(api: Client) -> None:
    await others(api, 3)
    page = await api.get(PAGE)
    check_page(page, 200, "Chrome on Windows")
    names = re.findall(r"<h2>(.*?)</h2>", page.text)
    assert names == ["Chrome on Windows", *["Unknown device"] * 3]
    first = rows_of(page)[0]
    assert "This device" in first
    assert "Active now" in first
    assert html.escape(CHROME) in first
    for kind in ("Browser", "App (token)", "App (JWT)"):
        assert kind in page.text


async def test_a_device_is_signed_out(api: Client) -> None:
    [other] = await others(api, 1)
    page = await follow(api, await api.post(PAGE, data={"id": other}))
    assert banner_of(page) == "That device is signed out."
    assert "everywhere else" not in page.text
    for gone in (other, str(uuid4()), "x", ""):
        page = await follow(api, await api.post(PAGE, data={"id": gone}))
        assert banner_of(page) == "That device was signed out already."
    assert (await api.get("/me")).status_code == 200


async def test_the_devices_of_other_accounts_are_not_found(api: Client) -> None:
    bob = await api.create_user("bob@example.com")
    await sign_in(api.services, bob)
    [session] = await api.services.sessions.list_for_user(bob.id)
    page = await follow(api, await api.post(PAGE, data={"id": str(session.id)}))
    assert banner_of(page) == "That device was signed out already."
    assert len(await api.services.sessions.list_for_user(bob.id)) == 1


async def test_signing_out_another_device_is_confirmed(api: Client) -> None:
    await others(api, 1)
    rows = rows_of(await api.get(PAGE))
    asks = ['data-confirm="Sign out this device?"' in row for row in rows]
    assert asks == [False, True]  # this one has a page that asks


async def test_this_device_is_signed_out_by_its_own_page(api: Client) -> None:
    current = (await api.get("/me/session")).json()["id"]
    page = await follow(api, await api.post(PAGE, data={"id": current}))
    check_page(page, 200, "You are signed in as")


async def test_all_others_are_signed_out(api: Client) -> None:
    await others(api, 4)
    user = UUID((await api.get("/me")).json()["id"])
    assert "Sign out 4 other devices?" in (await api.get(PAGE)).text
    await api.post("/me/tokens", json={"name": "stays"})
    page = await follow(api, await api.post(PAGE, data={"action": "others"}))
    assert banner_of(page) == "4 other devices are signed out."
    assert len(await api.services.tokens.personal.list_of(user)) == 1
    again = await follow(api, await api.post(PAGE, data={"action": "others"}))
    assert banner_of(again) == "All other devices are signed out."
    assert page.text.count("<h2>") == 1
    assert (await api.get("/me")).status_code == 200


async def test_times_tell_when_a_device_was_used(api: Client) -> None:
    await others(api, 1)
    with travel_to(now() + timedelta(minutes=10)):
        rows = rows_of(await api.get(PAGE))
        assert ["Active now" in row for row in rows] == [True, False]


async def test_many_devices_have_several_pages(api: Client) -> None:
    await others(api, 20)
    page = await api.get(PAGE)
    assert page.text.count("<h2>") == 10
    # check_page limits the weight.
    check_page(page, 200, "Older")
    last = await api.get(f"{PAGE}?page=3")
    assert last.text.count("<h2>") == 1
    assert "Newer" in last.text
    assert "Older" not in last.text
    for number in ("0", "-1", "4", "9999", "x", "١"):
        assert (await api.get(PAGE, params={"page": number})).status_code == 200


async def test_a_session_that_ends_meanwhile_leads_to_the_sign_in_page(api: Client) -> None:
    user = (await api.get("/me")).json()
    await api.services.sessions.end_all(UUID(user["id"]))
    answer = await api.post(PAGE, data={"action": "others"})
    assert answer.status_code == 303
    assert answer.headers["location"] == "sign-in?next=%2Faccount%2Fdevices&done=ended"
