"""What the script adds to the pages for signing in, and the switch of the language."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

pytestmark = pytest.mark.browser

PASSWORD = "correct horse battery staple"


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
    expect(page.get_by_role("heading", level=1)).to_have_text("Profile")
    assert len(sent) == 1
    # The time is in the zone and language of the reader.
    page.goto(f"{service}/account/security")
    expect(page.locator("time").first).to_contain_text("now")
    context.close()


def test_at_an_address_nothing_asks_for_passkeys(browser: Browser, service: str) -> None:
    page = browser.new_context().new_page()
    complaints, asked = list[str](), list[str]()
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("response", lambda answer: asked.append(f"{answer.status} {answer.url}"))
    page.goto(f"{service}/account/sign-in?next=/account/devices")
    link = page.get_by_role("link", name="http://localhost:")
    local = service.replace("127.0.0.1", "localhost")
    expect(link).to_have_attribute("href", f"{local}/account/sign-in?next=/account/devices")
    expect(page.get_by_role("button", name="Sign in with a passkey")).to_be_hidden()
    link.click()
    expect(page.get_by_role("button", name="Sign in with a passkey")).to_be_visible()
    page.wait_for_load_state("networkidle")
    page.context.close()
    assert complaints == []
    assert [line for line in asked if not line.startswith("200 ")] == []
    # Chromium has autofill of passkeys, so the page of localhost asks for them.
    assert [line for line in asked if "options" in line] == [f"200 {local}/login/passkey/options"]
