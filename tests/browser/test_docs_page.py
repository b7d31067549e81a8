"""The docs page in a browser: registration, each strategy, requests, and logout."""

import itertools
import json
import re
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, Request, Route, expect

pytestmark = pytest.mark.browser

PASSWORD = "correct horse battery staple"
PARTS = 8

REPORT_VIOLATIONS = """
addEventListener("securitypolicyviolation", (event) =>
    console.error("CSP:", event.violatedDirective, event.blockedURI, event.sourceFile));
"""

_numbers = itertools.count(1)


class DocsPage:
    """The docs page in a new tab, with the actions of a user."""

    def __init__(self, page: Page, url: str, prefix: str = "") -> None:
        self.page, self.prefix = page, prefix
        self.email = f"person{next(_numbers)}@example.com"
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
        # Chromium logs each 401, and these are expected. Over plain HTTP, it also logs headers that
        # it ignores.
        expected = ("status of 401", "Cross-Origin-Opener-Policy header", "Clear-Site-Data header")
        if message.type in ("error", "warning") and not any(it in message.text for it in expected):
            self.complaints.append(message.text)

    def press(self, name: str) -> None:
        """Click a button of the panel."""
        self.panel.get_by_role("button", name=name, exact=True).click()

    def register(self) -> None:
        """Register an account. Its address and password stay in the fields."""
        self.panel.get_by_label("E-mail").fill(self.email)
        self.panel.get_by_label("Password").fill(PASSWORD)
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


@pytest.fixture
def docs(browser: Browser, service: str) -> Iterator[DocsPage]:
    """The docs page for a new user. All its requests must go to the same host."""
    with browser.new_context() as context:
        page = DocsPage(context.new_page(), service)
        yield page
        assert {urlsplit(url).netloc for url in page.requests} == {urlsplit(service).netloc}
        assert page.complaints == []


def test_sign_in_with_a_cookie(docs: DocsPage) -> None:
    docs.execute("get", "/me", 401)
    docs.register()

    docs.press("Sign in")
    expect(docs.panel).to_contain_text(f"{docs.email}, by the session cookie")
    assert docs.email in docs.execute("get", "/me", 200)
    assert '"strategy": "session"' in docs.execute("get", "/me/identity", 200)

    docs.press("Sign out")
    expect(docs.panel).to_contain_text("Not signed in.")
    docs.execute("get", "/me", 401)


def test_authorize_with_a_pasted_token(docs: DocsPage) -> None:
    docs.register()
    login = {"email": docs.email, "password": PASSWORD, "strategy": "token"}
    token = json.loads(docs.execute("post", "/login", 200, body=login))["access_token"]

    form = docs.open_dialog().locator("form").filter(has_text="token (http, Bearer)")
    form.get_by_label("Value").fill(token)
    form.get_by_role("button", name="Apply credentials").click()
    docs.close_dialog()
    assert docs.email in docs.execute("get", "/me", 200)
    assert '"strategy": "token"' in docs.execute("get", "/me/identity", 200)

    docs.execute("post", "/logout", 204)
    docs.execute("get", "/me", 401)


def test_authorize_with_the_password_flow(docs: DocsPage) -> None:
    docs.register()

    form = docs.open_dialog().locator(".auth-container").filter(has_text="jwt (OAuth2, password)")
    form.get_by_label("username").fill(docs.email)
    form.get_by_label("password").fill(PASSWORD)
    form.get_by_role("button", name="Apply given OAuth2 credentials").click()
    expect(form).to_contain_text("Authorized")
    docs.close_dialog()
    assert docs.email in docs.execute("get", "/me", 200)
    assert '"strategy": "jwt"' in docs.execute("get", "/me/identity", 200)

    docs.execute("post", "/logout", 204)
    docs.execute("get", "/me", 401)


@pytest.mark.parametrize(("button", "strategy"), [("Get a token", "token"), ("Get a JWT", "jwt")])
def test_panel_buttons_authorize_requests(docs: DocsPage, button: str, strategy: str) -> None:
    docs.register()
    docs.press("Get a token")
    expect(docs.status).to_contain_text("sent with a token of")
    docs.press(button)  # replaces the token: the header has room for one credential
    expect(docs.status).to_contain_text(button.removeprefix("Get "))

    assert f'"strategy": "{strategy}"' in docs.execute("get", "/me/identity", 200)

    docs.execute("post", "/logout", 204)
    docs.execute("get", "/me/identity", 401)


def test_panel_follows_requests_executed_in_swagger_ui(docs: DocsPage) -> None:
    docs.register()
    docs.execute("post", "/login", 200, body={"email": docs.email, "password": PASSWORD})
    expect(docs.panel).to_contain_text(f"{docs.email}, by the session cookie")
    docs.execute("post", "/logout", 204)
    expect(docs.panel).to_contain_text("Not signed in.")


def test_unavailable_controls_are_removed(docs: DocsPage) -> None:
    def without_some(route: Route) -> None:
        document = route.fetch().json()
        del document["paths"]["/register"]
        del document["components"]["securitySchemes"]["session"]
        del document["components"]["securitySchemes"]["jwt"]
        route.fulfill(json=document)

    docs.page.route("**/openapi.json", without_some)
    docs.page.reload()
    expect(docs.panel.get_by_role("button")).to_have_text(["Get a token"])
    expect(docs.panel.get_by_label("Name")).to_have_count(0)


def test_panel_shows_errors(docs: DocsPage) -> None:
    docs.panel.get_by_label("E-mail").fill(docs.email)
    docs.panel.get_by_label("Password").fill("x" * 15)
    docs.press("Sign in")
    expect(docs.status).to_have_class("error")
    expect(docs.status).not_to_be_empty()


def test_panel_works_by_keyboard(docs: DocsPage) -> None:
    docs.register()
    docs.panel.get_by_label("Password").press("Enter")
    sign_out = docs.panel.get_by_role("button", name="Sign out")
    expect(sign_out).to_be_visible()
    sign_out.press("Enter")
    expect(docs.status).to_have_text("Signed out.")
    expect(docs.panel.get_by_label("E-mail")).to_be_focused()


def test_authorize_does_not_ask_for_a_cookie(docs: DocsPage) -> None:
    form = docs.open_dialog().locator(".auth-container").filter(has_text="session (cookie)")
    expect(form.first).to_contain_text("Sign in at the top of this page")
    expect(docs.dialog.locator("#api_key_value")).to_have_count(0)


def test_page_fits_the_window(docs: DocsPage) -> None:
    # A part of the routes at a time: Swagger UI renders all again when one opens.
    part, url = 0, docs.page.url

    def with_a_part(route: Route) -> None:
        document = route.fetch().json()
        paths = sorted(document["paths"].items())
        document["paths"] = dict(paths[part::PARTS])
        route.fulfill(json=document)

    docs.page.route("**/openapi.json", with_a_part)
    operations = docs.page.locator(".opblock-summary-control")
    collapsed = docs.page.locator(".opblock-summary-control[aria-expanded=false]")
    found = 0
    for part in range(PARTS):  # noqa: B007  # the route above reads it
        docs.page.goto("about:blank")  # the fragment of the URL names the last operation
        docs.page.goto(url)
        expect(operations.first).to_be_visible()
        found += operations.count()
        if docs.operation("get", "/me").count():
            docs.execute("get", "/me", 401)
        collapsed.evaluate_all("(all) => all.forEach((item) => item.click())")
        expect(collapsed).to_have_count(0)
        for width in (320, 390, 768, 1280):
            docs.page.set_viewport_size({"width": width, "height": 800})
            assert docs.page.evaluate("document.documentElement.scrollWidth") == width
    assert found > 40


def test_page_works_below_a_prefix(browser: Browser, prefixed_service: tuple[str, str]) -> None:
    url, prefix = prefixed_service
    with browser.new_context() as context:
        docs = DocsPage(context.new_page(), url, prefix)
        docs.register()
        docs.press("Sign in")
        expect(docs.panel).to_contain_text("by the session cookie")
        docs.press("Sign out")
        expect(docs.panel).to_contain_text("Not signed in.")

        form = docs.open_dialog().locator(".auth-container").filter(has_text="jwt (OAuth2")
        form.get_by_label("username").fill(docs.email)
        form.get_by_label("password").fill(PASSWORD)
        form.get_by_role("button", name="Apply given OAuth2 credentials").click()
        expect(form).to_contain_text("Authorized")
        docs.close_dialog()
        assert docs.email in docs.execute("get", "/me", 200)

        own = (f"{url}{prefix}/", f"{url}/openapi.json")
        assert all(requested.startswith(own) for requested in docs.requests)
        assert docs.complaints == []


def test_an_address_names_the_page_at_localhost(
    browser: Browser, prefixed_service: tuple[str, str]
) -> None:
    url, prefix = prefixed_service
    local = url.replace("127.0.0.1", "localhost")
    with browser.new_context() as context:
        docs = DocsPage(context.new_page(), url, prefix)
        notice = docs.page.get_by_text("Passkeys need a domain")
        expect(notice).to_have_text(f"Passkeys need a domain: open {local}{prefix}/docs")
        notice.get_by_role("link").click()
        docs.page.wait_for_url(f"{local}{prefix}/docs")
        expect(docs.panel).to_be_visible()
        expect(notice).to_be_hidden()
        docs.register()
        assert docs.complaints == []


def test_csp_blocks_foreign_scripts_and_the_tests_detect_it(browser: Browser, service: str) -> None:
    with browser.new_context() as context:
        docs = DocsPage(context.new_page(), service)
        stopped = docs.page.evaluate(
            """() => new Promise((resolve) => {
                const stopped = [];
                addEventListener("securitypolicyviolation", (event) => {
                    stopped.push(event.effectiveDirective);
                    if (stopped.length === 4) resolve(stopped.sort());
                });
                const add = (name, members) =>
                    document.body.append(Object.assign(document.createElement(name), members));
                add("script", { textContent: "window.ran = true" });
                add("img", { src: "https://elsewhere.example/pixel.png" });
                document.body.setAttribute("style", "color: red");
                fetch("https://elsewhere.example/").catch(() => null);
            })"""
        )
        assert stopped == ["connect-src", "img-src", "script-src-elem", "style-src-attr"]
        assert docs.page.evaluate("window.ran") is None
        for directive in stopped:
            assert any(f"CSP: {directive}" in text for text in docs.complaints)
