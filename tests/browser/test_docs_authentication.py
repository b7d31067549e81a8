"""The panel of the docs page: second factors, passkeys, step-up, and who is signed in."""

import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyotp
import pytest
from playwright.sync_api import Browser, Locator, Page, Route, expect

from tests.browser.accessibility import Axe
from tests.browser.docs_page import PASSWORD, DocsPage
from tests.browser.installations import Installation, installed
from tests.browser.passkeys import add_authenticator

pytestmark = pytest.mark.browser

ADD_PASSKEY = """async () => {
    const post = async (path, body) => {
        const headers = { "content-type": "application/json" };
        const response = await fetch(path, { method: "POST", headers, body: JSON.stringify(body) });
        return response.json();
    };
    const options = await post("me/factors/passkeys/options");
    const publicKey = PublicKeyCredential.parseCreationOptionsFromJSON(options);
    const credential = await navigator.credentials.create({ publicKey });
    return post("me/factors/passkeys", { credential: credential.toJSON(), name: "phone" });
}"""


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A running service, whose mail can be read."""
    with installed(tmp_path_factory.mktemp("docs"), AUTHAPI_MFA_REQUIRED_ROLES="") as it:
        yield it


class Person:
    """An account with an authenticator app."""

    def __init__(self, installation: Installation) -> None:
        self.email = installation.register("en")
        installation.confirm(self.email)
        token = installation.log_in(self.email)
        self.app = pyotp.TOTP(
            installation.post("/me/factors/totp", {}, token=token).json()["secret"]
        )
        body: dict[str, object] = {"code": self.app.now()}
        confirmed = installation.post("/me/factors/totp/confirm", body, token=token)
        self.codes: list[str] = confirmed.json()["recovery_codes"]

    def next_code(self) -> str:
        """A code that was not used yet."""
        return self.app.at(int(time.time()) + 30)


@pytest.fixture
def docs(browser: Browser, installation: Installation) -> Iterator[DocsPage]:
    """The docs page of that service."""
    with browser.new_context() as context:
        page = DocsPage(context.new_page(), installation.url)
        yield page
        assert page.complaints == []
        stored = "JSON.stringify([{ ...localStorage }, { ...sessionStorage }])"
        assert page.page.evaluate(stored) == "[{},{}]"


def rows(docs: DocsPage) -> Locator:
    return docs.panel.get_by_role("list", name="Who is signed in").get_by_role("listitem")


def test_sign_in_with_a_code(docs: DocsPage, installation: Installation) -> None:
    person = Person(installation)
    docs.enter(person.email)
    docs.press("Sign in")
    code = docs.panel.get_by_label("Code of the authenticator app")
    expect(code).to_be_focused()
    code.fill("000000")
    code.press("Enter")
    expect(docs.status).to_have_text("The second factor is wrong. 4 attempts left.")
    expect(code).to_be_focused()
    expect(code).to_have_value("")
    code.fill(person.next_code())
    code.press("Enter")
    expect(docs.status).to_have_text(f"Signed in as {person.email}.")
    expect(rows(docs)).to_have_count(1)
    expect(rows(docs)).to_contain_text(
        re.compile(
            rf"{re.escape(person.email)} · Session cookie · by password and code of the app · "
            r"two factors · since \d\d:\d\d · until \w+ \d+, 20\d\d, \d\d:\d\d"
        )
    )
    expect(rows(docs)).to_contain_text("in use")
    # It stays after the page is loaded again, and so does its padlock.
    docs.page.reload()
    expect(rows(docs)).to_contain_text(person.email)
    padlock = docs.operation("get", "/me").locator(".authorization__btn")
    expect(padlock).to_have_attribute("aria-label", "authorization button locked")
    docs.press("Sign out")
    expect(docs.panel).to_contain_text("Not signed in.")
    expect(padlock).to_have_attribute("aria-label", "authorization button unlocked")


def test_get_a_jwt_with_a_recovery_code(docs: DocsPage, installation: Installation) -> None:
    person = Person(installation)
    docs.enter(person.email)
    docs.press("Get a JWT")
    docs.press("Use a recovery code")
    docs.panel.get_by_label("Recovery code").fill(person.codes[0].lower())
    docs.press("Continue")
    expect(rows(docs)).to_contain_text("JWT · by password and recovery code · two factors")
    assert '"recovery"' in docs.execute("get", "/me/identity", 200)
    dialog = docs.open_dialog()
    expect(dialog.locator(".auth-container").filter(has_text="jwt (OAuth2")).to_contain_text(
        "Authorized"
    )
    docs.close_dialog()
    docs.press("End this JWT")
    expect(docs.status).to_have_text("The JWT has ended.")
    docs.execute("get", "/me/identity", 401)


def test_the_second_step_can_be_left(docs: DocsPage, installation: Installation) -> None:
    docs.enter(Person(installation).email)
    docs.press("Sign in")
    docs.press("Cancel")
    expect(docs.panel.get_by_label("E-mail")).to_be_focused()
    expect(docs.panel).to_contain_text("Not signed in.")


def test_a_login_that_has_expired_begins_again(docs: DocsPage, installation: Installation) -> None:
    docs.enter(Person(installation).email)
    docs.press("Sign in")
    for _ in range(5):
        docs.panel.get_by_label("Code of the authenticator app").fill("000000")
        docs.press("Continue")
        expect(docs.status).not_to_be_empty()
        expect(docs.panel).not_to_have_attribute("aria-busy", "true")
    docs.panel.get_by_label("Code of the authenticator app").fill("000000")
    docs.press("Continue")
    expect(docs.panel.get_by_label("Password")).to_be_visible()
    expect(docs.status).to_have_class("error")


def test_passkeys_sign_in_and_are_a_second_factor(
    docs: DocsPage, installation: Installation
) -> None:
    email = installation.register("en")
    installation.confirm(email)
    add_authenticator(docs.page)
    docs.enter(email)
    docs.press("Sign in")
    expect(rows(docs)).to_contain_text("by password")
    assert docs.page.evaluate(ADD_PASSKEY)["passkey"]["name"] == "phone"
    docs.press("Sign out")
    docs.press("Use a passkey")
    expect(rows(docs)).to_contain_text("Session cookie · by passkey · two factors")
    docs.press("Sign out")
    docs.enter(email)
    docs.press("Get a token")
    docs.press("Use a passkey")
    expect(rows(docs)).to_contain_text("Token · by password and passkey · two factors")


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A service whose accounts must have a second factor."""
    with installed(tmp_path_factory.mktemp("strict"), AUTHAPI_MFA="required") as it:
        yield it


def test_enrolment_says_where_to_do_it(browser: Browser, strict: Installation) -> None:
    with browser.new_context() as context:
        docs = DocsPage(context.new_page(), strict.url)
        docs.enter(strict.register("en"))
        docs.press("Get a token")
        link = docs.panel.get_by_role("link", name="Add it at the sign-in page")
        expect(link).to_have_attribute("href", "account/sign-in")
        docs.press("Sign in")
        expect(link).to_have_attribute("href", "account/sign-in/enrol")
        link.click()
        expect(docs.page.get_by_role("button", name="Set up an authenticator app")).to_be_visible()


def refuse_once(page: Page, path: str, **members: object) -> None:
    """Refuses the next request to `path`, as a route that asks for another login does."""

    def refuse(route: Route) -> None:
        problem = {"title": "x", "detail": "x", "type": "x", "status": 401, **members}
        route.fulfill(status=401, content_type="application/problem+json", json=problem)

    page.route(f"**{path}", refuse, times=1)


@pytest.mark.parametrize("button", ["Sign in", "Get a JWT"])
def test_a_stale_login_is_proved_again(docs: DocsPage, button: str) -> None:
    docs.register()
    docs.press(button)
    expect(rows(docs)).to_have_count(1)
    refuse_once(docs.page, "/me/sessions", code="stale_authentication", max_age=300)
    docs.execute("get", "/me/sessions", 401)
    dialog = docs.page.get_by_role("dialog", name="Prove that it is you")
    expect(dialog).to_contain_text("This operation asks for a login at most 300 seconds ago.")
    password = dialog.get_by_label("Password")
    expect(password).to_be_focused()
    password.fill("wrong")
    password.press("Enter")
    expect(dialog.get_by_role("status")).to_have_class("error")
    password.fill(PASSWORD)
    password.press("Enter")
    expect(dialog).to_be_hidden()
    expect(docs.status).to_have_text("Proved. Execute the operation again.")
    docs.execute("get", "/me/sessions", 200)


def test_a_weak_login_is_proved_by_a_factor(docs: DocsPage, installation: Installation) -> None:
    person = Person(installation)
    docs.enter(person.email)
    docs.press("Sign in")
    docs.press("Use a recovery code")
    docs.panel.get_by_label("Recovery code").fill(person.codes[0])
    docs.press("Continue")
    expect(rows(docs)).to_have_count(1)
    needed = {"code": "insufficient_authentication", "acr_values": "urn:authapi:acr:2"}
    refuse_once(docs.page, "/me/sessions", **needed)
    docs.execute("get", "/me/sessions", 401)
    dialog = docs.page.get_by_role("dialog", name="Prove that it is you")
    expect(dialog).to_contain_text("a login with two factors")
    expect(dialog.get_by_role("button", name="Use the password")).to_have_count(0)
    dialog.get_by_label("Code of the authenticator app").fill(person.next_code())
    dialog.get_by_role("button", name="Continue").click()
    expect(dialog).to_be_hidden()
    expect(rows(docs)).to_contain_text("code of the app")


def test_what_cannot_be_proved_again_says_so(docs: DocsPage) -> None:
    docs.register()
    docs.press("Sign in")
    expect(rows(docs)).to_have_count(1)
    needed = {"code": "insufficient_authentication", "acr_values": "phr"}
    refuse_once(docs.page, "/me/sessions", **needed)
    docs.execute("get", "/me/sessions", 401)
    dialog = docs.page.get_by_role("dialog", name="Prove that it is you")
    expect(dialog).to_contain_text("The account has no such factor")
    link = dialog.get_by_role("link", name="add one at the page of the account")
    expect(link).to_have_attribute("href", "account/security")
    docs.page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    docs.press("Get a token")
    expect(rows(docs)).to_have_count(2)
    refuse_once(docs.page, "/me", **needed)
    docs.execute("get", "/me", 401)
    expect(dialog).to_contain_text("sign in again at the top of the page")


def test_authorize_tells_of_the_cookie(docs: DocsPage) -> None:
    docs.register()
    docs.press("Sign in")
    expect(rows(docs)).to_have_count(1)
    cookie = docs.open_dialog().locator(".docs-cookie")
    expect(cookie).to_contain_text(f"Signed in as {docs.email}")
    # The focus stays in the dialog, and returns to the button that has opened it.
    for _ in range(30):
        docs.page.keyboard.press("Tab")
        assert docs.page.evaluate("document.activeElement.closest('.modal-ux') !== null")
    cookie.get_by_role("button", name="Sign out").click()
    expect(cookie).to_contain_text("Not signed in.")
    docs.page.keyboard.press("Escape")
    expect(docs.dialog).to_be_hidden()
    expect(docs.panel).to_contain_text("Not signed in.")


def test_the_curl_command_works(docs: DocsPage) -> None:
    docs.register()
    docs.press("Sign in")
    expect(rows(docs)).to_have_count(1)

    def run(operation: Locator) -> str:
        command = operation.locator(".curl").inner_text()
        [cookie] = docs.page.context.cookies()
        command = command.replace("YOUR_SESSION_COOKIE", cookie.get("value", ""))
        found = subprocess.run(
            ["bash", "-c", f"{command} -s -o /dev/null -w '%{{http_code}}'"],
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        )
        return found.stdout

    docs.execute("get", "/me", 200)
    assert run(docs.operation("get", "/me")) == "200"
    docs.execute("patch", "/me", 200, body={"name": "It's Alice"})
    assert run(docs.operation("patch", "/me")) == "200"
    docs.press("Get a token")
    expect(rows(docs)).to_have_count(2)
    docs.execute("get", "/me/identity", 200)
    assert run(docs.operation("get", "/me/identity")) == "200"


def test_the_filter_finds_operations(docs: DocsPage) -> None:
    field = docs.page.get_by_label("Filter")
    count, shown = docs.page.locator("#filter-count"), docs.page.locator(".opblock")
    everything = shown.count()
    for phrase, expected in (
        ("/me/sessions", "3 operations"),
        ("DELETE sessions me", "2 operations"),
        ("read identity", "1 operation"),
        ("no such thing", "0 operations"),
    ):
        field.fill(phrase)
        expect(count).to_have_text(expected)
        expect(shown).to_have_count(int(expected.split()[0]))
    field.fill("health")
    expect(docs.page.locator(".opblock-tag")).to_have_count(1)
    expect(docs.page.locator(".opblock-tag")).to_contain_text("Whether the service runs")
    field.fill("")
    expect(shown).to_have_count(everything)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_axe_finds_nothing(
    browser: Browser, installation: Installation, axe: str, scheme: Any, width: int
) -> None:
    person = Person(installation)
    options = {"viewport": {"width": width, "height": 900}, "color_scheme": scheme}
    with browser.new_context(**options) as context:
        docs = DocsPage(context.new_page(), installation.url)
        check = Axe(docs.page, axe)
        assert check.violations() == [], "signed out"
        docs.enter(person.email)
        docs.press("Sign in")
        code = docs.panel.get_by_label("Code of the authenticator app")
        expect(code).to_be_visible()
        assert check.violations() == [], "second factor"
        code.fill(person.next_code())
        docs.press("Continue")
        expect(rows(docs)).to_have_count(1)
        docs.execute("get", "/me", 200)
        docs.operation("post", "/login").locator(".opblock-summary-control").click()
        docs.operation("get", "/admin/events").locator(".opblock-summary-control").click()
        expect(docs.page.locator(".opblock.is-open")).to_have_count(3)
        assert check.violations() == [], "signed in, with open operations"
        refuse_once(docs.page, "/me", code="stale_authentication", max_age=300)
        docs.execute("get", "/me", 401)
        expect(docs.page.get_by_role("dialog", name="Prove that it is you")).to_be_visible()
        assert check.violations() == [], "step-up"
        docs.page.keyboard.press("Escape")
        docs.open_dialog()
        # Swagger UI skips a level: a scheme of h4 follows the h2 of the scopes of the one before.
        assert {rule for rule, _ in check.violations()} <= {"heading-order"}


def test_files_are_kept_and_compressed(browser: Browser, installation: Installation) -> None:
    with browser.new_context() as context:
        page = context.new_page()
        received = {}
        page.on("response", lambda answer: received.update({answer.url.partition("?")[0]: answer}))
        docs = DocsPage(page, installation.url)
        folder = Path(__file__).parents[2] / "src/authapi/web/docs/swagger-ui"
        for name in ("swagger-ui-bundle.js", "swagger-ui.css"):
            answer = received[f"{installation.url}/docs/{name}"]
            assert answer.header_value("content-encoding") == "br"
            assert answer.body() == (folder / name).read_bytes(), "compress the files again"
        session, asked = context.new_cdp_session(page), []
        session.send("Network.enable")

        def on_response(event: dict[str, Any]) -> None:
            if not event["response"]["fromDiskCache"]:
                asked.append(event["response"]["url"])

        session.on("Network.responseReceived", on_response)
        page.goto("about:blank")
        page.goto(f"{installation.url}/docs")
        expect(docs.operation("get", "/me")).to_be_visible()
        assert f"{installation.url}/docs" in asked
        assert [url for url in asked if "/docs/" in url] == []
        assert docs.complaints == []
