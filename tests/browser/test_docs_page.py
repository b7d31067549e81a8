"""The docs page in a browser: registration, each strategy, requests, and logout."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import Browser, Route, expect

from tests.browser.answers import fetched
from tests.browser.docs_page import PASSWORD, DocsPage
from tests.servers.process import ServeProcess, free_port

pytestmark = pytest.mark.browser

PARTS = 8


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
    expect(docs.panel).to_contain_text(f"{docs.email} · Session cookie")
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
    expect(docs.panel).to_contain_text(f"{docs.email} · Session cookie")
    docs.execute("post", "/logout", 204)
    expect(docs.panel).to_contain_text("Not signed in.")


def test_unavailable_controls_are_removed(docs: DocsPage) -> None:
    def without_some(route: Route) -> None:
        document = fetched(route).json()
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
    expect(form.first.get_by_role("button")).to_have_text(["Sign in"])
    form.first.get_by_role("button").click()
    expect(docs.dialog).to_be_hidden()
    expect(docs.panel.get_by_label("E-mail")).to_be_focused()


def test_page_fits_the_window(docs: DocsPage) -> None:
    # A part of the routes at a time: Swagger UI renders all again when one opens.
    part, url = 0, docs.page.url

    def with_a_part(route: Route) -> None:
        document = fetched(route).json()
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
        expect(docs.panel).to_contain_text("Session cookie · by password")
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


def test_requests_go_to_the_origin_of_the_page(docs: DocsPage) -> None:
    # Such as an address of the local network, beside the public URL.
    public_url = "https://auth.example.com"

    def with_public_url(route: Route) -> None:
        answer = fetched(route)
        page = answer.text().replace('data-public-url=""', f'data-public-url="{public_url}"')
        assert public_url in page
        route.fulfill(response=answer, body=page)

    def with_servers(route: Route) -> None:
        route.fulfill(json={**fetched(route).json(), "servers": servers})

    docs.page.route("**/docs", with_public_url)
    docs.page.route("**/openapi.json", with_servers)
    for servers in ([{"url": public_url}], [{"url": public_url}, {"url": "/"}]):
        docs.page.reload()
        docs.execute("get", "/me", 401)
        assert docs.page.locator(".servers").count() == len(servers) - 1


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


RESOURCE_SERVER = """
from fastapi import Depends, FastAPI
from authapi import current_identity
from authapi.verify import EdgeSettings, RemoteJWT, ResourceServer

auth = ResourceServer(
    RemoteJWT(issuer="https://auth.example.com", audience="orders"),
    settings=EdgeSettings(docs=True, public_url="{url}"),
)
app = FastAPI(lifespan=auth.lifespan, docs_url=None)
auth.install(app)
app.get("/me", dependencies=[Depends(current_identity())])(lambda: None)
"""


def test_a_resource_server_has_no_login(browser: Browser, tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    (tmp_path / "orders.py").write_text(RESOURCE_SERVER.format(url=url))
    command = [sys.executable, "-m", "uvicorn", "--app-dir", str(tmp_path), "orders:app"]
    environment = {"PATH": os.defpath, "HOME": str(tmp_path)}
    with (
        ServeProcess([*command, "--port", str(port)], environment, tmp_path) as process,
        browser.new_context() as context,
    ):
        process.wait_ready(f"{url}/health/live", timeout=60)
        assert httpx.get(f"{url}/docs", trust_env=False).status_code == 200
        docs = DocsPage(context.new_page(), url)
        expect(docs.panel).to_contain_text("This API has no login of its own.")
        expect(docs.panel).to_contain_text("Its tokens come from https://auth.example.com.")
        expect(docs.panel.locator("form:visible")).to_have_count(0)
        docs.press("Use a token")
        expect(docs.dialog).to_be_visible()
        assert docs.complaints == []
