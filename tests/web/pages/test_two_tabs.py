"""Two tabs show the same form, and both send it: the second answer says what has happened."""

from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta

import pyotp
import pytest
import time_machine

from authapi import Settings
from authapi.clock import now
from authapi.domain.email_token import Purpose
from authapi.testing import PASSWORD
from tests.clocks import travel_to
from tests.second_factors import add_second_factors
from tests.web.pages.browser import Browser, Form, Page
from tests.web.pages.scenes import create_person, furnish, mailed, open_browser
from tests.web.pages.texts import ENGLISH
from tests.web.pages.walk import NEW_PASSWORD, Person, Walk


def named(name: str) -> Callable[[Form], bool]:
    return lambda form: form.values.get("action") == name


def sends(field: str) -> Callable[[Form], bool]:
    return lambda form: field in {item["name"] for item in form.typed} | form.values.keys()


def last(page: Page, is_wanted: Callable[[Form], bool]) -> Form:
    return [form for form in page.forms() if form.method == "post" and is_wanted(form)][-1]


@pytest.fixture
def clock() -> Iterator[time_machine.Traveller]:
    with travel_to(now()) as found:
        yield found


@pytest.fixture
async def walk(database_url: str, clock: time_machine.Traveller) -> AsyncIterator[Walk]:
    async with open_browser(Settings(database_url=database_url)) as browser:  # type: ignore[arg-type]  # pydantic parses it
        user = await create_person(browser.client)
        await furnish(browser.client, user, rows=1)
        found = Walk(browser, Person(), clock)
        await found.sign_in()
        yield found


async def both(
    browser: Browser, path: str, is_wanted: Callable[[Form], bool], **typed: str
) -> tuple[Page, Page]:
    """The pages after the form of both tabs."""
    first, second = [last(await browser.open(path), is_wanted) for _ in range(2)]
    return await browser.send(first, **typed), await browser.send(second, **typed)


def message(page: Page) -> str:
    """The text of the banner of a page."""
    found = [item.text for item in page.main if item["role"] in {"status", "alert"} and item.text]
    return found[0] if found else ""


CASES = {
    "name": ("/account", named("name"), {"name": "B"}, 412, ENGLISH["precondition_failed"]),
    "device": ("/account/devices", sends("id"), {}, 200, "That device was signed out already."),
    "token": ("/account/tokens", sends("id"), {}, 200, "That token had ended already."),
    "password": (
        "/account/security/password",
        sends("new_password"),
        {"current_password": PASSWORD, "new_password": NEW_PASSWORD},
        403,
        ENGLISH["wrong_password"],
    ),
    "delete": (
        "/account/data/delete",
        sends("email"),
        {"email": "alice@example.com", "password": PASSWORD},
        200,
        "You were signed out. Sign in to go on.",
    ),
    "sign out": ("/account/sign-out", lambda _: True, {}, 200, "You are signed out."),
}


@pytest.mark.parametrize("case", CASES)
async def test_the_second_form_says_what_has_happened(walk: Walk, case: str) -> None:
    path, is_wanted, typed, status, text = CASES[case]
    first, second = await both(walk.browser, path, is_wanted, **typed)
    assert first.status == 200
    assert (second.status, message(second)) == (status, text)


async def test_a_token_is_made_once(walk: Walk) -> None:
    form = last(await walk.browser.open("/account/tokens/new"), sends("form"))
    made = await walk.browser.send(form, name="deploy")
    assert made.path == "/account/tokens/new"
    again = await walk.browser.send(form, name="deploy")
    assert message(again).startswith("That token was made already.")


async def test_an_app_is_added_and_removed_once(walk: Walk) -> None:
    browser, page = walk.browser, "/account/security/app"
    shown = await browser.send(last(await browser.open(page), lambda form: "/app" in form.url))
    [key] = [item.text for item in shown.main if item["class"] == "key"]
    app, confirm = pyotp.TOTP(key.replace(" ", "")), last(shown, named("confirm"))
    codes = await browser.send(confirm, code=app.at(now()))
    assert codes.path == page
    again = await browser.send(confirm, code=app.at(now(), counter_offset=1))
    assert message(again) == "Your authenticator app is set up."
    _, second = await both(browser, f"{page}/remove", lambda form: "remove" in form.url)
    assert message(second) == "That was removed already."


async def test_a_key_that_is_too_old_says_so(walk: Walk) -> None:
    browser, page = walk.browser, "/account/security/app"
    start = last(await browser.open(page), lambda form: "/app" in form.url)
    old = last(await browser.send(start), named("confirm"))
    walk.clock.shift(timedelta(minutes=11))
    late = await browser.send(old, code="123456")
    assert message(late) == "That key is not valid any longer. Begin again."


async def test_a_link_is_used_once(walk: Walk) -> None:
    browser = walk.browser
    user = await create_person(browser.client, "bob@example.com")
    token = await mailed(browser.client, user, Purpose.RESET, email=user.email)
    first, second = await both(
        browser, f"/account/reset?token={token}", sends("token"), new_password=NEW_PASSWORD
    )
    assert message(first).startswith("Your password is changed.")
    assert (second.status, message(second)) == (400, ENGLISH["invalid_one_time_secret"])


async def test_a_second_step_is_taken_once(walk: Walk) -> None:
    browser = walk.browser
    user = await create_person(browser.client, "bob@example.com")
    factors = await add_second_factors(browser.client.services, user)
    browser.client.cookies.clear()
    form = last(await browser.open("/account/sign-in"), sends("password"))
    step = last(await browser.send(form, email=user.email, password=PASSWORD), sends("code"))
    assert (await browser.send(step, code=factors.code())).path == "/account"
    again = await browser.send(step, code=factors.code(steps=1))
    assert again.path == "/account/sign-in"
