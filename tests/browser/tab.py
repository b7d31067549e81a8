"""A tab of a person's browser: what they do, what they are shown, and what must not happen."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, expect

from tests.browser.accessibility import Axe
from tests.browser.installations import PASSWORD, Installation
from tests.browser.looks import Look
from tests.browser.montage import Album

CHROME = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/142.0.0.0 Safari/537.36"
)
PHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) Version/18.6 Mobile Safari/604.1"

SMALL_TARGETS = """() => [...document.querySelectorAll(
    'a[href], button, input, select, summary, .choice')]
.filter((it) => it.checkVisibility() && !['hidden', 'checkbox', 'radio'].includes(it.type))
.filter((it) => !it.matches('.skip') && getComputedStyle(it).display !== 'inline')
.filter((it) => {
    const { width, height } = it.getBoundingClientRect();
    return height < 43.5 || width < 43.5;
}).map((it) => it.outerHTML)"""
"""The controls below 44 pixels, except for links in sentences (WCAG 2.2, section 2.5.8)."""


class Tab:
    """A tab in a browser of its own.

    `arrives` checks each page: accessibility, its width and language, and the console.
    """

    def __init__(
        self,
        page: Page,
        look: Look,
        installation: Installation,
        axe: str,
        album: Album | None = None,
    ) -> None:
        self.page, self.look, self._installation, self._album = page, look, installation, album
        self.complaints: list[str] = []
        self._axe = Axe(page, axe, has_script=look.script)
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        # Browsers report a violation of the CSP without JavaScript, too.
        self._issues = page.context.new_cdp_session(page)
        self._issues.on("Audits.issueAdded", self._on_issue)
        self._issues.send("Audits.enable")

    def _on_console(self, message: ConsoleMessage) -> None:
        # Chromium logs each error response, and these are expected.
        if message.type in ("error", "warning") and "the server responded" not in message.text:
            self.complaints.append(message.text)

    def _on_issue(self, found: dict[str, Any]) -> None:
        if found["issue"]["code"] == "ContentSecurityPolicyIssue":
            self.complaints.append(str(found["issue"]["details"]))

    def open(self, where: str) -> None:
        """Opens a page of the service, or a link."""
        self.page.goto(where if "://" in where else self._installation.url + where)

    def word(self, sentence: str, **values: object) -> str:
        """The text of a page in the language of the person."""
        return self.look.word(sentence, **values)

    def control(self, sentence: str) -> Locator:
        """The button or link with this text."""
        name = self.word(sentence)
        button = self.page.get_by_role("button", name=name, exact=True)
        return button.or_(self.page.get_by_role("link", name=name, exact=True)).first

    def press(self, sentence: str) -> None:
        """Clicks the button or link with this text."""
        self.control(sentence).click()

    def fill(self, **values: str) -> None:
        """Fills fields, by their ids."""
        for name, value in values.items():
            self.page.locator(f"#{name}").fill(value)

    def unfold(self, name: str) -> None:
        """Opens the details that contain the field with this id."""
        details = self.page.locator("details", has=self.page.locator(f"#{name}"))
        details.locator("summary").click()

    def send(self, name: str) -> None:
        """Sends the form that has the field with this id, by its first button."""
        form = self.page.locator("form", has=self.page.locator(f"#{name}"))
        form.locator("button:not([type=button])").first.click()

    def arrives(self, title: str, message: str | None = None, **values: object) -> None:
        """The person arrives at a page with this title and message, which has no fault."""
        heading = self.page.locator("h1")
        expect(heading).to_have_text(self.word(title))
        if message is not None:
            self.told(message, **values)
        self.check()

    def told(self, message: str, **values: object) -> None:
        """The person is told this: by a banner, or by the error of a field."""
        text = self.word(message, **values)
        told = self.page.locator(".banner, .error, [role=status]").filter(has_text=text)
        expect(told.first).to_be_visible()

    def shows(self, sentence: str, **values: object) -> None:
        """The page contains this text."""
        expect(self.page.locator("main")).to_contain_text(self.word(sentence, **values))

    def check(self) -> None:
        """Checks the page that is shown: axe, width, targets, language, console."""
        self.page.wait_for_load_state("load")
        where = self.page.url
        assert self._axe.violations() == [], where
        assert self.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), where
        small = self.page.evaluate(SMALL_TARGETS)
        assert small == [], (where, small)
        assert self.page.locator("html").get_attribute("lang") == self.look.language, where
        assert self.complaints == [], where
        if self._album is not None:
            self._album.add(self.page, self.look)

    def sign_in(self, address: str, password: str = PASSWORD) -> None:
        """Fills and sends the form at /account/sign-in."""
        self.open("/account/sign-in")
        self.fill(email=address, password=password)
        self.press("Sign in")

    def is_at(self, path: str) -> None:
        """The address of the page has this path."""
        expect(self.page).to_have_url(re.compile(rf"^[^?#]*{re.escape(path)}([?#].*)?$"))


class Browsers:
    """The browsers of a journey, which all look alike."""

    def __init__(self, browser: Browser, look: Look, axe: str, album: Album | None) -> None:
        self._browser, self._axe, self._album, self.look = browser, axe, album, look
        self._tabs: list[Tab] = []

    def open(self, installation: Installation, **options: Any) -> Tab:
        """Opens a browser of its own, without cookies."""
        height = 800 if self.look.width > 400 else 740
        context = self._browser.new_context(
            viewport={"width": self.look.width, "height": height},
            color_scheme=self.look.scheme,
            locale=self.look.language,
            reduced_motion="reduce",
            **options,
        )
        tab = Tab(context.new_page(), self.look, installation, self._axe, self._album)
        self._tabs.append(tab)
        return tab

    def close(self) -> None:
        """Closes all browsers."""
        for tab in self._tabs:
            tab.page.context.close()

    def complaints(self) -> list[str]:
        """What the consoles have said."""
        return [text for tab in self._tabs for text in tab.complaints]


@contextmanager
def browsers(
    browser: Browser, look: Look, axe: str, album: Album | None = None
) -> Iterator[Browsers]:
    """Browsers that are closed at the end, and whose consoles must be empty then."""
    opened = Browsers(browser, look, axe, album)
    try:
        yield opened
        assert opened.complaints() == []
    finally:
        opened.close()
