"""/account/sign-in/enrol: a login adds the second step that its account must have."""

import json
import re
from collections.abc import AsyncIterator
from datetime import timedelta

import httpx
import pyotp
import pytest

from authapi import Settings, create_app
from authapi.clock import now
from authapi.domain.email_address import parse_email
from authapi.testing import PASSWORD, Client, client
from tests.clocks import travel_to
from tests.second_factors import add_second_factors
from tests.soft_authenticator import SoftAuthenticator
from tests.web.pages.checks import check_page
from tests.web.routes.pages.people import ALICE, follow, without_cookies

ENROL = "/account/sign-in/enrol"
FORM = {"email": ALICE, "password": PASSWORD, "next": "/x"}


@pytest.fixture
async def api(database_url: str) -> AsyncIterator[Client]:
    settings = Settings(database_url=database_url, mfa="required")  # type: ignore[arg-type]  # pydantic parses it
    async with client(create_app(settings)) as found:
        user = await found.create_user(ALICE)
        await found.services.accounts.email_changes.confirm_for_operator(user.id)
        yield found


async def begin(api: Client) -> httpx.Response:
    """Send the password; returns the page that the login goes on with."""
    sent = await api.post("/account/sign-in", data=FORM)
    assert sent.headers["location"] == "sign-in/enrol?next=%2Fx"
    return await follow(api, sent)


async def test_a_login_adds_an_app(api: Client) -> None:
    check_page(await begin(api), 200, "Your account must have a second step")
    shown = await api.post(ENROL, data={"next": "/x"})
    check_page(shown, 200, "Scan this with the app")
    [key] = re.findall(r'<p class="key"><code>([A-Z2-7 ]+)</code>', shown.text)
    app = pyotp.TOTP(key.replace(" ", ""))
    wrong = await api.post(ENROL, data={"action": "confirm", "code": "12345"})
    check_page(wrong, 422, "Enter the six digits", is_error=True)
    done = await api.post(ENROL, data={"action": "confirm", "code": app.at(now()), "next": "/x"})
    check_page(without_cookies(done), 200, "Each code signs you in once")
    assert 'href="../sign-in?done=in&amp;next=%2Fx"' in done.text
    assert (await api.get("/account/sign-in?done=in&next=/x")).headers["location"] == "/x"
    assert "mfa" in (await api.get("/me/identity")).json()["amr"]
    # The login is complete, so nothing waits.
    assert (await api.get(ENROL)).headers["location"].startswith("../sign-in?done=expired")


async def test_a_wrong_code_is_asked_for_again(api: Client) -> None:
    await begin(api)
    shown = await api.post(ENROL, data={"go": "on"})
    [key] = re.findall(r'<p class="key"><code>([A-Z2-7 ]+)</code>', shown.text)
    app = pyotp.TOTP(key.replace(" ", ""))
    near = {app.at(now(), counter_offset=step) for step in range(-3, 4)}
    code = next(text for text in map("{:06}".format, range(10)) if text not in near)
    for _ in range(5):
        refused = await api.post(ENROL, data={"action": "confirm", "code": code})
        check_page(refused, 403, "That code is not right.", is_error=True)
        assert key not in refused.text
    over = await api.post(ENROL, data={"action": "confirm", "code": app.at(now())})
    assert over.headers["location"] == "../sign-in?done=expired"


async def test_a_login_adds_a_passkey(api: Client) -> None:
    page = await begin(api)
    assert 'data-options="../../login/enrolment/passkey/options"' in page.text
    asked = await api.post("/login/enrolment/passkey/options", json={})
    created = json.dumps(SoftAuthenticator().create(asked.json()))
    done = await api.post(ENROL, data={"credential": created, "next": "/x"})
    check_page(without_cookies(done), 200, "Each code signs you in once")
    assert (await api.get("/me/identity")).json()["acr"] == "phr"


async def test_a_code_without_a_key_begins_again(api: Client) -> None:
    await begin(api)
    answer = await api.post(ENROL, data={"action": "confirm", "code": "123456", "next": "/x"})
    assert (answer.status_code, answer.headers["location"]) == (303, "../sign-in/enrol?next=%2Fx")


async def test_a_login_that_waits_too_long_begins_again(api: Client) -> None:
    with travel_to(now()) as clock:
        await begin(api)
        clock.shift(timedelta(minutes=6))
        for answer in (
            await api.get(f"{ENROL}?next=/x"),
            await api.post(ENROL, data={"next": "/x"}),
        ):
            assert answer.headers["location"] == "../sign-in?done=expired&next=%2Fx"


async def test_the_two_kinds_of_login_have_their_own_pages(api: Client) -> None:
    await begin(api)
    assert (await api.get("/account/sign-in/second")).headers["location"] == "../sign-in/enrol"
    user = await api.services.accounts.profiles.find_by_email(parse_email(ALICE))
    await add_second_factors(api.services, user)
    await api.post("/account/sign-in", data=FORM)
    assert (await api.get(ENROL)).headers["location"] == "../sign-in/second"


async def test_a_code_from_an_earlier_login_keeps_the_login(api: Client) -> None:
    await begin(api)
    stray = await api.post("/account/sign-in/second", data={"code": "123456", "next": "/x"})
    assert stray.headers["location"] == "../sign-in/enrol?next=%2Fx"
    check_page(await follow(api, stray), 200, "Your account must have a second step")


@pytest.mark.parametrize("form", [{"go": "on"}, {"action": "confirm", "code": "123456"}])
async def test_a_form_of_an_earlier_enrolment_keeps_the_login(
    api: Client, form: dict[str, str]
) -> None:
    user = await api.services.accounts.profiles.find_by_email(parse_email(ALICE))
    await add_second_factors(api.services, user)
    await api.post("/account/sign-in", data=FORM)
    stray = await api.post(ENROL, data={**form, "next": "/x"})
    assert stray.headers["location"] == "../sign-in/second?next=%2Fx"
    assert (await follow(api, stray)).status_code == 200


async def test_another_browser_cannot_go_on(api: Client) -> None:
    await begin(api)
    api.cookies.clear()
    for answer in (await api.get(ENROL), await api.post(ENROL, data={"go": "on"})):
        assert answer.headers["location"] == "../sign-in?done=expired"
