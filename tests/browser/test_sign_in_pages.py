"""Signing in with Chromium: with JavaScript and without it, on a phone, by keyboard, zoomed."""

import json
import re
import urllib.request
from collections.abc import Iterator
from itertools import count

import pytest
from playwright.sync_api import Browser, Page, expect

pytestmark = pytest.mark.browser

PASSWORD = "correct horse battery staple"

_numbers = count(1)


@pytest.fixture(params=[True, False], ids=["script", "no script"])
def tab(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A tab with the width of a phone. It collects what the console complains about."""
    context = browser.new_context(
        viewport={"width": 390, "height": 800},
        java_script_enabled=request.param,
        reduced_motion="reduce",
    )
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "console",
        lambda message: (
            complaints.append(message.text)
            if message.type in ("error", "warning") and "the server responded" not in message.text
            else None
        ),
    )
    yield page
    context.close()
    assert complaints == []


def register(url: str) -> str:
    """Create an account, and return its address."""
    address = f"signin{next(_numbers)}@example.com"
    body = json.dumps({"email": address, "password": PASSWORD}).encode()
    headers = {"content-type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(f"{url}/register", body, headers)):
        return address


def test_a_person_signs_up_out_and_in(tab: Page, service: str) -> None:
    address = f"signup{next(_numbers)}@example.com"
    tab.goto(f"{service}/")
    expect(tab.get_by_role("heading", level=1)).to_have_text("Sign in")
    tab.get_by_role("link", name="Create an account").click()
    tab.get_by_label("Name").fill("Alice")
    tab.get_by_label("E-mail address").fill(address)
    tab.locator("#password").fill(PASSWORD)
    tab.get_by_role("button", name="Create account").click()
    expect(tab.get_by_role("heading", level=1)).to_have_text("My account")
    expect(tab.get_by_role("status")).to_contain_text("Your account is ready")
    tab.get_by_role("button", name="Sign out").click()
    expect(tab.get_by_role("status")).to_have_text("You are signed out.")
    tab.get_by_label("E-mail address").fill(address)
    tab.locator("#password").fill("wrong")
    tab.get_by_role("button", name="Sign in").click()
    expect(tab.get_by_role("alert")).to_have_text("E-mail address or password is not right.")
    expect(tab.get_by_label("E-mail address")).to_have_value(address)
    # The password has the focus, and is empty.
    expect(tab.locator("#password")).to_be_focused()
    tab.keyboard.type(PASSWORD)
    tab.keyboard.press("Enter")
    expect(tab.locator("main")).to_contain_text(address)
    tab.goto(f"{service}/account/sign-in?next=/account/sign-out")
    tab.get_by_role("link", name="Continue").click()
    expect(tab.get_by_role("heading", level=1)).to_have_text("Sign out")


def test_the_language_is_switched(tab: Page, service: str) -> None:
    tab.goto(f"{service}/account/sign-in?next=/account")
    if tab.evaluate("() => document.querySelector('.language button').hidden"):
        tab.locator("#lang").select_option("ko")
    else:
        tab.locator("#lang").select_option("ko")
        tab.locator(".language button").click()
    expect(tab.locator("html")).to_have_attribute("lang", "ko")
    expect(tab.get_by_role("heading", level=1)).to_have_text("로그인")
    expect(tab.locator("input[name=next]").first).to_have_value("/account")
    tab.goto(f"{service}/account/sign-up")
    expect(tab.locator("html")).to_have_attribute("lang", "ko")


def test_the_script_improves_the_form(browser: Browser, service: str) -> None:
    context = browser.new_context(reduced_motion="reduce")
    page = context.new_page()
    page.goto(f"{service}/account/sign-up")
    password = page.locator("#password")
    password.fill("nine char")
    expect(page.locator(".count")).to_have_text("9 of 15 characters")
    eye = page.get_by_role("button", name=re.compile("^Show"))
    eye.click()
    expect(password).to_have_attribute("type", "text")
    expect(page.get_by_role("button", name=re.compile("Password"))).to_have_attribute(
        "aria-pressed", "true"
    )
    password.fill(PASSWORD)
    expect(page.locator(".count")).to_have_text("")
    # The form is sent once, with the password hidden again.
    page.get_by_label("E-mail address").fill("script@example.com")
    sent: list[str] = []
    page.on("request", lambda it: sent.append(it.url) if it.method == "POST" else None)
    page.evaluate(
        "() => { const b = document.querySelector('main button.primary'); b.click(); b.click(); }"
    )
    expect(page.get_by_role("heading", level=1)).to_have_text("My account")
    assert len(sent) == 1
    # The time is in the zone and language of the reader.
    expect(page.locator("time")).to_contain_text("this minute")
    context.close()


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_no_page_is_wider_than_the_screen(browser: Browser, service: str, width: int) -> None:
    """320 pixels are 1280 at 400 % (WCAG 2.2, section 1.4.10). Targets are 44 pixels high, except
    for the button inside of a field, which has its height."""
    context = browser.new_context(viewport={"width": width, "height": 256})
    page = context.new_page()
    for language in ("en", "ko"):
        for name in ("sign-in", "sign-up", "check-mail", "forgot", "reset?token=x", "nowhere"):
            address = f"{service}/account/{name}"
            page.goto(f"{address}{'&' if '?' in name else '?'}lang={language}")
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
            small = page.evaluate(
                """() => [...document.querySelectorAll('button, input, select, .button')]
                .filter((it) => !['hidden', 'checkbox'].includes(it.type) && it.checkVisibility())
                .filter((it) => it.getBoundingClientRect().height < 42)
                .map((it) => it.outerHTML)"""
            )
            assert small == [], name
    context.close()


def test_forced_colours_keep_the_edges(browser: Browser, service: str) -> None:
    context = browser.new_context(forced_colors="active")
    page = context.new_page()
    page.goto(f"{service}/account/sign-in")
    for selector in ("main button.primary", "#email", ".panel"):
        width = page.locator(selector).first.evaluate("it => getComputedStyle(it).borderTopWidth")
        assert width != "0px", selector
    context.close()
