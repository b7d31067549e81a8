"""The pages of the links in mails: keyboard only, phone and desktop, accessibility."""

import email
import email.policy
import json
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect

pytestmark = pytest.mark.browser

PASSWORD = "correct horse battery staple"
OTHER = "another horse, another battery"
WIDTHS = (360, 1280)

_numbers = count(1)


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The script of axe-core, from npm in a pinned version. Fails without npm."""
    folder = tmp_path_factory.mktemp("axe")
    shutil.copy(Path(__file__).parent / "axe" / "package.json", folder)
    # No lock file: it would contain the host of the registry.
    quiet = ("--silent", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts")
    subprocess.run(["npm", "install", "--prefix", folder, *quiet], check=True, timeout=120)
    return (folder / "node_modules" / "axe-core" / "axe.min.js").read_text(encoding="utf-8")


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
    expect(tab.get_by_role("status")).to_contain_text("Your password is changed")
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


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("language", ["en", "ko"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_pass_axe(
    browser: Browser, axe: str, visitor: Visitor, width: int, language: str, scheme: Any
) -> None:
    context = browser.new_context(
        viewport={"width": width, "height": 740},
        locale=language,
        color_scheme=scheme,
        reduced_motion="reduce",
    )
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))

    def on_console(message: ConsoleMessage) -> None:
        # Chromium logs each error response, and these are expected.
        if message.type in ("error", "warning") and "the server responded" not in message.text:
            complaints.append(message.text)

    page.on("console", on_console)

    def check(where: str) -> None:
        # In an isolated world, because the CSP of the page allows no scripts.
        session = context.new_cdp_session(page)
        frame = session.send("Page.getFrameTree")["frameTree"]["frame"]["id"]
        world = session.send("Page.createIsolatedWorld", {"frameId": frame})["executionContextId"]
        expression = f"{axe}; axe.run(document).then((it) => JSON.stringify(it.violations))"
        found = session.send(
            "Runtime.evaluate",
            {
                "expression": expression,
                "contextId": world,
                "awaitPromise": True,
                "returnByValue": True,
            },
        )
        session.detach()
        assert "exceptionDetails" not in found, found
        violations = json.loads(found["result"]["value"])
        assert [(item["id"], item["nodes"][0]["html"]) for item in violations] == [], where
        # Nothing is wider than the screen, so the page does not scroll horizontally.
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), where
        assert page.locator("html").get_attribute("lang") == language

    pages = ("confirm", "reset", "undo", "disown", "invitation", "forgot", "sign-in", "sign-up")
    for name in (*pages, "check-mail"):
        page.goto(f"{visitor.url}/account/{name}?token={'x' * 43}")
        check(f"{name}, shown")
    page.goto(visitor.link("confirm").replace("&lang=en", ""))
    check("confirm, with a link")
    page.locator("summary").click()
    check("confirm, opened")
    for path in ("nowhere", "forgot/deeper/x"):
        page.goto(f"{visitor.url}/account/{path}")
        check(f"{path}, refused")
    form = f'<form method="post" action="{visitor.url}/account/forgot"><button>Send</button></form>'
    page.route("http://elsewhere.lan/", lambda it: it.fulfill(body=form, content_type="text/html"))
    page.goto("http://elsewhere.lan/")
    page.locator("button").click()
    expect(page.get_by_role("alert")).to_be_visible()
    check("forgot, refused")
    page.goto(visitor.request_reset_link().replace("&lang=en", ""))
    page.locator("#new_password").fill("short")
    page.locator("#new_password").press("Enter")
    expect(page.get_by_role("alert")).to_be_visible()
    check("reset, refused")
    page.locator("#new_password").fill(OTHER)
    page.locator("#new_password").press("Enter")
    expect(page.get_by_role("status")).to_be_visible()
    check("reset, done")
    page.locator("#password").fill("wrong")
    page.locator("#password").press("Enter")
    expect(page.get_by_role("alert")).to_be_visible()
    check("sign-in, refused")
    page.locator("#password").fill(OTHER)
    page.locator("#password").press("Enter")
    page.wait_for_url("**/account")
    check("account")
    for name in ("sign-out", "prove", "sign-in"):
        page.goto(f"{visitor.url}/account/{name}")
        check(f"{name}, signed in")
    assert complaints == []
    context.close()
