"""The pages of the links in mails, by keyboard only, on a phone without JavaScript."""

import email
import email.policy
import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

pytestmark = pytest.mark.browser

PASSWORD = "correct horse battery staple"
OTHER = "another horse, another battery"

_numbers = count(1)


@pytest.fixture
def tab(browser: Browser) -> Iterator[Page]:
    """A tab with the width of a phone, without JavaScript: the most restricted environment."""
    context = browser.new_context(viewport={"width": 360, "height": 740}, java_script_enabled=False)
    yield context.new_page()
    context.close()


class Visitor:
    """A person with an account and a mailbox."""

    def __init__(self, url: str, data: Path) -> None:
        self.url, self.data = url, data
        self.address = f"page{next(_numbers)}@example.com"
        self.post("/register", {"email": self.address, "password": PASSWORD, "name": "Alice"})

    def post(self, path: str, body: dict[str, str]) -> int:
        request = urllib.request.Request(
            self.url + path, json.dumps(body).encode(), {"content-type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=20) as answer:
            status: int = answer.status
            return status

    def link(self, page: str) -> str:
        """The link to this page in the newest mail that contains one."""
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            for path in sorted(self.data.rglob("*.eml"), reverse=True):
                message = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
                body = message.get_body(("plain",))
                text = body.get_content() if body is not None else ""
                found = re.search(rf"http://\S+/account/{page}\?token=\S+", text)
                if found and message["to"] == self.address:
                    return found[0]
            time.sleep(0.05)
        pytest.fail(f"no mail to {self.address} leads to {page}")

    def request_reset_link(self) -> str:
        assert self.post("/password/forgot", {"email": self.address}) == 202
        return self.link("reset")

    def can_log_in(self, password: str) -> bool:
        try:
            return self.post("/login", {"email": self.address, "password": password}) == 200
        except urllib.error.HTTPError as error:
            if error.code != 401:
                raise
            return False


@pytest.fixture
def visitor(service: str, environment: dict[str, str]) -> Visitor:
    return Visitor(service, Path(environment["AUTHAPI_DATA_DIR"]))


def press(page: Page, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def check_focus(page: Page, selector: str) -> None:
    """Check that the element has the focus."""
    expect(page.locator(selector)).to_be_focused()


def tab_to(page: Page, selector: str) -> None:
    """Move the focus forward to the element, as a person without a mouse does."""
    for _ in range(12):
        press(page, "Tab")
        if page.locator(selector).evaluate("element => element === document.activeElement"):
            return
    pytest.fail(f"{selector} is not reached by the keyboard")


def test_a_password_is_reset_by_keyboard(tab: Page, visitor: Visitor) -> None:
    tab.goto(visitor.request_reset_link())
    tab_to(tab, "#new_password")
    tab.keyboard.type("short")
    press(tab, "Enter")
    # The field with the error has the focus.
    expect(tab.get_by_role("alert")).to_contain_text("at least 15 characters")
    check_focus(tab, "#new_password")
    expect(tab.get_by_label("New password")).to_have_accessible_description(
        re.compile("too short.*At least 15 characters")
    )
    tab.keyboard.type(OTHER)
    press(tab, "Tab")
    check_focus(tab, "main button")
    press(tab, "Enter")
    # The next page is the one to sign in, which knows the address.
    expect(tab.locator(".banner")).to_contain_text("Your password is changed")
    expect(tab.locator("#email")).to_have_value(visitor.address)
    assert visitor.can_log_in(OTHER)
    assert not visitor.can_log_in(PASSWORD)


def test_an_address_is_confirmed_by_keyboard(tab: Page, visitor: Visitor) -> None:
    tab.goto(visitor.link("confirm"))
    tab_to(tab, "#password")
    press(tab, "Enter")
    # The browser validates the field itself, so the form was not sent.
    check_focus(tab, "#password")
    tab.keyboard.type(OTHER)
    press(tab, "Enter")
    expect(tab.get_by_role("alert")).to_contain_text("The password is wrong")
    check_focus(tab, "#password")
    tab.keyboard.type(PASSWORD)
    press(tab, "Tab", "Enter")
    expect(tab.get_by_role("status")).to_have_text("Your e-mail address is confirmed.")
    assert visitor.can_log_in(PASSWORD)


def test_confirming_without_password_resets_the_account(tab: Page, visitor: Visitor) -> None:
    tab.goto(visitor.link("confirm"))
    tab_to(tab, "summary")
    press(tab, "Enter", "Tab")
    check_focus(tab, "#email")
    press(tab, "Enter")
    # The browser validates the address itself, so the form was not sent.
    expect(tab.get_by_role("alert")).to_have_count(0)
    tab.keyboard.type("other@example.com")
    press(tab, "Enter")
    expect(tab.get_by_role("alert")).to_contain_text("The e-mail was not sent to this address")
    check_focus(tab, "#email")
    assert visitor.can_log_in(PASSWORD)
    press(tab, "ControlOrMeta+A")
    tab.keyboard.type(visitor.address)
    press(tab, "Tab")
    check_focus(tab, "main button.plain")
    press(tab, "Space")
    expect(tab.get_by_role("status")).to_contain_text("An e-mail to choose a password")
    assert not visitor.can_log_in(PASSWORD)
    assert visitor.link("reset")


def test_a_reset_mail_is_requested_by_keyboard(tab: Page, visitor: Visitor) -> None:
    tab.goto(f"{visitor.url}/account/reset?token=used")
    expect(tab.get_by_role("alert")).to_contain_text("This link is no longer valid")
    tab_to(tab, "main a.button")
    press(tab, "Enter")
    expect(tab.get_by_role("heading")).to_have_text("Forgot your password?")
    tab_to(tab, "#email")
    tab.keyboard.type(visitor.address)
    press(tab, "Enter")
    expect(tab.get_by_role("status")).to_contain_text("an e-mail is on its way")
    assert visitor.link("reset")
