"""The pages that links in mail lead to: by keyboard alone, on a phone and a desk, for everybody."""

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
    """The script of axe-core, from npm by its pinned name. Fails where there is no npm."""
    folder = tmp_path_factory.mktemp("axe")
    shutil.copy(Path(__file__).parent / "axe" / "package.json", folder)
    # No lock: it would name the host that the module came from.
    quiet = ("--silent", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts")
    subprocess.run(["npm", "install", "--prefix", folder, *quiet], check=True, timeout=120)
    return (folder / "node_modules" / "axe-core" / "axe.min.js").read_text(encoding="utf-8")


@pytest.fixture
def tab(browser: Browser) -> Iterator[Page]:
    """A tab as wide as a phone, without script: what works there works everywhere."""
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
        """The link to this page in the newest mail that has one."""
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

    def forgets(self) -> str:
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


def focused(page: Page, selector: str) -> None:
    """What the next key goes to, and that it can be seen."""
    expect(page.locator(selector)).to_be_focused()


def test_a_password_is_reset_by_keyboard(tab: Page, visitor: Visitor) -> None:
    tab.goto(visitor.forgets())
    press(tab, "Tab")
    focused(tab, "#field")
    tab.keyboard.type("short")
    press(tab, "Enter")
    # The error is at the field, which has the focus already.
    expect(tab.get_by_role("alert")).to_contain_text("at least 15 characters")
    focused(tab, "#field")
    expect(tab.get_by_label("New password")).to_have_accessible_description(
        re.compile("too short.*At least 15 characters")
    )
    tab.keyboard.type(OTHER)
    press(tab, "Tab")
    focused(tab, "button")
    press(tab, "Enter")
    expect(tab.get_by_role("status")).to_contain_text("Your password is changed")
    assert visitor.can_log_in(OTHER)
    assert not visitor.can_log_in(PASSWORD)


def test_an_address_is_confirmed_by_keyboard(tab: Page, visitor: Visitor) -> None:
    tab.goto(visitor.link("confirm"))
    press(tab, "Tab")
    focused(tab, "#field")
    press(tab, "Enter")
    expect(tab.get_by_role("alert")).to_contain_text("Type the password")
    focused(tab, "#field")
    tab.keyboard.type(PASSWORD)
    press(tab, "Tab", "Enter")
    expect(tab.get_by_role("status")).to_have_text("Your e-mail address is confirmed.")
    assert visitor.can_log_in(PASSWORD)


def test_an_account_of_a_stranger_is_emptied_by_the_second_button(
    tab: Page, visitor: Visitor
) -> None:
    tab.goto(visitor.link("confirm"))
    press(tab, "Tab", "Tab", "Tab")
    focused(tab, "#address")
    press(tab, "Enter")
    # The browser itself asks for an address: nothing was sent.
    expect(tab.get_by_role("alert")).to_have_count(0)
    tab.keyboard.type("other@example.com")
    press(tab, "Enter")
    expect(tab.get_by_role("alert")).to_contain_text("not the address that the mail was sent to")
    focused(tab, "#address")
    assert visitor.can_log_in(PASSWORD)
    press(tab, "ControlOrMeta+A")
    tab.keyboard.type(visitor.address)
    press(tab, "Tab")
    focused(tab, "button.second")
    press(tab, "Space")
    expect(tab.get_by_role("status")).to_contain_text("A mail to choose a password")
    assert not visitor.can_log_in(PASSWORD)
    assert visitor.link("reset")


def test_a_forgotten_password_by_keyboard(tab: Page, visitor: Visitor) -> None:
    tab.goto(f"{visitor.url}/account/reset?token=used")
    press(tab, "Tab")
    tab.keyboard.type(OTHER)
    press(tab, "Enter")
    expect(tab.get_by_role("alert")).to_contain_text("does not work any more")
    press(tab, "Tab")
    focused(tab, "a")
    press(tab, "Enter")
    expect(tab.get_by_role("heading")).to_have_text("Forgot your password?")
    press(tab, "Tab")
    tab.keyboard.type(visitor.address)
    press(tab, "Enter")
    expect(tab.get_by_role("status")).to_contain_text("a mail is on its way")
    assert visitor.link("reset")


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("language", ["en", "ko"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_has_no_complaint(
    browser: Browser, axe: str, visitor: Visitor, width: int, language: str, scheme: Any
) -> None:
    context = browser.new_context(
        viewport={"width": width, "height": 740}, locale=language, color_scheme=scheme
    )
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))

    def on_console(message: ConsoleMessage) -> None:
        # Chromium notes each refusal by itself, and here they are wanted.
        if message.type in ("error", "warning") and "the server responded" not in message.text:
            complaints.append(message.text)

    page.on("console", on_console)

    def check(where: str) -> None:
        # Into a world of its own, past the policy of the page, which lets no script run.
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
        # Nothing is wider than the screen: nobody has to scroll sideways.
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), where
        assert page.locator("html").get_attribute("lang") == language

    for name in ("confirm", "reset", "undo", "invitation", "forgot"):
        page.goto(f"{visitor.url}/account/{name}?token={'x' * 43}")
        check(f"{name}, shown")
    page.goto(f"{visitor.url}/account/reset?token=")
    check("no link")
    for path in ("nowhere", "forgot/deeper/x"):
        page.goto(f"{visitor.url}/account/{path}")
        check(f"{path}, refused")
    form = f'<form method="post" action="{visitor.url}/account/forgot"><button>Send</button></form>'
    page.route("http://elsewhere.lan/", lambda it: it.fulfill(body=form, content_type="text/html"))
    page.goto("http://elsewhere.lan/")
    page.locator("button").click()
    expect(page.get_by_role("alert")).to_be_visible()
    check("forgot, refused")
    page.goto(visitor.forgets())
    page.locator("#field").fill("short")
    page.locator("button").press("Enter")
    expect(page.get_by_role("alert")).to_be_visible()
    check("reset, refused")
    page.locator("#field").fill(OTHER)
    page.locator("button").press("Enter")
    expect(page.get_by_role("status")).to_be_visible()
    check("reset, done")
    assert complaints == []
    context.close()
