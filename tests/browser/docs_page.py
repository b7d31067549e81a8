"""The docs page in a tab, with the actions of a user."""

import itertools
import json
import re

from playwright.sync_api import ConsoleMessage, Locator, Page, Request, expect

PASSWORD = "correct horse battery staple"

REPORT_VIOLATIONS = """
addEventListener("securitypolicyviolation", (event) =>
    console.error("CSP:", event.violatedDirective, event.blockedURI, event.sourceFile));
"""

_numbers = itertools.count(1)


class DocsPage:
    """The docs page in a new tab, with the actions of a user."""

    def __init__(self, page: Page, url: str, prefix: str = "") -> None:
        self.page, self.prefix = page, prefix
        self.email = f"reader{next(_numbers)}@example.com"
        self.requests: list[str] = []
        self.complaints: list[str] = []
        page.on("request", self._on_request)
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.add_init_script(REPORT_VIOLATIONS)
        page.goto(f"{url}{prefix}/docs")
        self.panel = page.get_by_role("region", name="Authentication")
        self.status = self.panel.get_by_role("status")
        self.dialog = page.locator(".modal-ux")
        expect(self.operation("get", "/me")).to_be_visible()

    def _on_request(self, request: Request) -> None:
        self.requests.append(request.url)

    def _on_console(self, message: ConsoleMessage) -> None:
        # Chromium logs each refusal, and these are expected. Over plain HTTP, it also logs headers
        # that it ignores.
        refusals = ("status of 401", "status of 403")
        expected = (*refusals, "Cross-Origin-Opener-Policy header", "Clear-Site-Data header")
        if message.type in ("error", "warning") and not any(it in message.text for it in expected):
            self.complaints.append(message.text)

    def press(self, name: str) -> None:
        """Click a button of the panel."""
        expect(self.panel).not_to_have_attribute("aria-busy", "true")
        self.panel.get_by_role("button", name=name, exact=True).click()

    def enter(self, email: str | None = None) -> None:
        """Enter an address, and the password."""
        self.panel.get_by_label("E-mail").fill(email or self.email)
        self.panel.get_by_label("Password").fill(PASSWORD)

    def register(self) -> None:
        """Register an account. Its address and password stay in the fields."""
        self.enter()
        self.panel.get_by_label("Name").fill("Alice Example")
        self.press("Register")
        expect(self.status).to_have_text(f"Registered {self.email}.")

    def operation(self, method: str, path: str) -> Locator:
        """The block of an operation."""
        has_path = self.page.locator(f'[data-path="{self.prefix}{path}"]')
        return self.page.locator(f".opblock-{method}").filter(has=has_path)

    def execute(self, method: str, path: str, status: int, *, body: object = None) -> str:
        """Execute an operation, check the status, and return the body of the response."""
        block = self.operation(method, path)
        if "is-open" not in (block.get_attribute("class") or "").split():
            block.locator(".opblock-summary-control").click()
        if body is not None:
            block.locator("textarea.body-param__text").fill(json.dumps(body))
        block.get_by_role("button", name="Execute").click()
        answer = block.locator(".live-responses-table tbody tr")
        expect(answer.locator(".response-col_status")).to_have_text(re.compile(rf"^{status}"))
        shown = answer.locator(".response-col_description code").first
        return shown.inner_text() if status != 204 else ""

    def open_dialog(self) -> Locator:
        """Open the Authorize dialog."""
        self.page.locator(".auth-wrapper .btn.authorize").first.click()
        expect(self.dialog).to_be_visible()
        return self.dialog

    def close_dialog(self) -> None:
        self.dialog.get_by_role("button", name="Close", exact=True).first.click()
        expect(self.dialog).to_be_hidden()
