"""All pages over plain HTTP with a name of the local network, which is not a secure context.

In this case, browsers do not send `Sec-Fetch-Site`: only `Origin` has the origin of a form.
"""

from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Request, Route, expect

from tests.browser.docs_page import DocsPage
from tests.browser.test_account_pages import OTHER, PASSWORD, Visitor, visitor

__all__ = ["visitor"]

pytestmark = pytest.mark.browser

FOREIGN = "http://elsewhere.lan"


@pytest.fixture
def lan(service: str) -> str:
    """The URL of the service, with a host name that a browser does not treat as loopback."""
    return f"http://authapi.lan:{urlsplit(service).port}"


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A browser context: cookies and tabs of one user."""
    with browser.new_context(viewport={"width": 360, "height": 740}) as context:
        yield context


def with_host(link: str, lan: str) -> str:
    """A link from a mail, with the host of `lan`."""
    parts, name = urlsplit(link), urlsplit(lan)
    return parts._replace(netloc=name.netloc).geturl()


def submit(page: Page, *, button: str = "button.primary, body > form button") -> Request:
    """Submit the form, and return the request of the browser."""
    with page.expect_request(lambda request: request.method == "POST") as sent:
        page.locator(button).first.click()
    page.wait_for_load_state()
    return sent.value


def check_sent(request: Request, lan: str) -> None:
    """Check that the browser sent the origin only, without path or query."""
    headers = request.all_headers()
    assert headers["origin"] == lan
    assert headers["referer"] == f"{lan}/"
    assert "sec-fetch-site" not in headers


def test_a_reset_mail_is_requested(context: BrowserContext, lan: str, visitor: Visitor) -> None:
    page = context.new_page()
    page.goto(f"{lan}/account/forgot")
    assert page.evaluate("isSecureContext") is False
    page.locator("#email").fill(visitor.address)
    check_sent(submit(page), lan)
    expect(page.get_by_role("status")).to_contain_text("an e-mail is on its way")
    assert visitor.link("reset")


def test_a_password_is_chosen(context: BrowserContext, lan: str, visitor: Visitor) -> None:
    page = context.new_page()
    page.goto(with_host(visitor.request_reset_link(), lan))
    page.locator("#new_password").fill(OTHER)
    check_sent(submit(page), lan)
    expect(page.locator(".banner")).to_contain_text("Your password is changed")
    assert visitor.can_log_in(OTHER)


@pytest.mark.parametrize("button", ["button.primary", "details button.plain"])
def test_an_address_is_confirmed(
    context: BrowserContext, lan: str, visitor: Visitor, button: str
) -> None:
    page = context.new_page()
    page.goto(with_host(visitor.link("confirm"), lan))
    if button == "button.primary":
        page.locator("#password").fill(PASSWORD)
    else:
        page.locator("summary").click()
        page.locator("#email").fill(visitor.address)
    check_sent(submit(page, button=button), lan)
    expect(page.get_by_role("status")).to_contain_text("Your e-mail address is confirmed.")


@pytest.mark.parametrize("name", ["undo", "invitation"])
def test_an_invalid_link_shows_an_error(context: BrowserContext, lan: str, name: str) -> None:
    page = context.new_page()
    page.goto(f"{lan}/account/{name}?token={'x' * 43}")
    expect(page.get_by_role("alert")).to_contain_text("This link is no longer valid")
    page.locator("main a.button").click()
    expect(page.get_by_role("heading")).to_have_text("Forgot your password?")


@pytest.mark.parametrize("headers", [{}, {"content-security-policy": "sandbox allow-forms"}])
def test_a_cross_origin_form_shows_an_error_page_with_a_link(
    context: BrowserContext, lan: str, visitor: Visitor, headers: dict[str, str]
) -> None:
    def foreign(route: Route) -> None:
        form = f'<form method="post" action="{lan}/account/forgot">'
        field = f'<input name="email" value="{visitor.address}">'
        route.fulfill(
            body=f"{form}{field}<button>Win</button></form>",
            headers=headers | {"content-type": "text/html"},
        )

    context.route(f"{FOREIGN}/**", foreign)
    page = context.new_page()
    page.goto(f"{FOREIGN}/prize")
    with page.expect_response(f"{lan}/account/forgot") as answered:
        sent = submit(page)
    assert sent.all_headers()["origin"] == ("null" if headers else FOREIGN)
    assert answered.value.status == 403
    expect(page.get_by_role("alert")).to_contain_text("was not sent from this website")
    page.get_by_role("link", name="Open the form again").click()
    page.locator("#email").fill(visitor.address)
    check_sent(submit(page), lan)
    expect(page.get_by_role("status")).to_contain_text("an e-mail is on its way")


def test_an_unknown_page_has_a_stylesheet_and_a_link(context: BrowserContext, lan: str) -> None:
    page = context.new_page()
    answer = page.goto(f"{lan}/account/forgot/deeper/x")
    assert answer is not None
    assert answer.status == 404
    expect(page.get_by_role("heading")).to_have_text("Page not found")
    assert page.locator("main").evaluate("(it) => getComputedStyle(it).maxWidth") == "448px"
    page.locator("main a.button").click()
    expect(page.get_by_role("heading")).to_have_text("Sign in")


def test_docs_page_signs_in_and_out(context: BrowserContext, lan: str) -> None:
    docs = DocsPage(context.new_page(), lan)
    docs.register()
    docs.press("Sign in")
    expect(docs.panel).to_contain_text(f"{docs.email} · Session cookie")
    assert docs.email in docs.execute("get", "/me", 200)
    docs.execute("delete", "/me/sessions", 204)
    docs.press("Sign out")
    expect(docs.panel).to_contain_text("Not signed in.")

    form = docs.open_dialog().locator(".auth-container").filter(has_text="jwt (OAuth2, password)")
    form.get_by_label("username").fill(docs.email)
    form.get_by_label("password").fill(PASSWORD)
    form.get_by_role("button", name="Apply given OAuth2 credentials").click()
    expect(form).to_contain_text("Authorized")
    docs.close_dialog()
    assert '"strategy": "jwt"' in docs.execute("get", "/me/identity", 200)
    assert docs.complaints == []
