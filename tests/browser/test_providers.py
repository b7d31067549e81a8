"""Logins at oidc-provider of npm, in Chromium, by the pages of `authapi serve`."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Request, expect

from tests.browser.accessibility import Axe
from tests.browser.installations import PASSWORD, Installation, installed
from tests.servers.oidc_provider import SECRET, oidc_provider
from tests.servers.process import free_port
from tests.servers.web_server import WebServer

pytestmark = [pytest.mark.browser, pytest.mark.slow]

APP = """<!doctype html><meta charset="utf-8"><title>App</title><h1>App</h1>
<form method="post" action="{url}/login/with/acme">
<input name="continue" value="{app}/in?mine=1"><input name="strategy" value="jwt">
<button>Go</button></form>
<p id="who"></p><script>
const code = new URLSearchParams(location.hash.slice(1)).get("code")
if (code) fetch("{url}/login/with/exchange", {{method: "POST", body: JSON.stringify({{code}}),
  headers: {{"content-type": "application/json"}}}}).then(r => r.json()).then(b => {{
  document.querySelector("#who").textContent = b.user.email + " " + b.strategy + location.search }})
</script>"""
"""A page of an application at another origin, which exchanges a code for a token."""
ATTACK = """<!doctype html><meta charset="utf-8"><title>Evil</title>
<a href="{url}/login/with/acme?strategy=session">link</a>
<form method="post" action="{url}/login/with/acme"><button>form</button></form>
<iframe src="{url}/account/sign-in"></iframe>"""


@dataclass(frozen=True, slots=True)
class Place:
    """A service with providers, an application at an allowed origin, and a foreign website."""

    service: Installation
    app: str
    evil: str


@contextmanager
def website(host: str, port: int, body: str) -> Iterator[str]:
    """Serves one page on every path; yields its origin."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    server = WebServer(("127.0.0.1", port), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    port, at, app_port, evil_port = (free_port() for _ in range(4))
    url, app = f"http://localhost:{port}", f"http://app.lan:{app_port}"
    names = {"acme": "rs256", "es": "es256", "post": "eddsa"}
    uris = [f"{url}/login/with/{name}/callback" for name in names]
    with (
        oidc_provider(tmp_path_factory.mktemp("provider"), at, uris) as issuer,
        website("app.lan", app_port, APP.format(url=url, app=app)) as app,
        website("evil.lan", evil_port, ATTACK.format(url=url)) as evil,
    ):
        common = {
            "issuer": issuer,
            "client_secret": SECRET,
            "trusted_email_domains": ["example.com"],
        }
        providers = {
            name: {**common, "client_id": client, "title": f"{name.title()} ID"}
            for name, client in names.items()
        }
        providers["post"]["response_mode"] = "form_post"
        with installed(
            tmp_path_factory.mktemp("service"),
            port,
            AUTHAPI_PROVIDERS=json.dumps(providers),
            AUTHAPI_ALLOWED_ORIGINS=app,
        ) as service:
            yield Place(service, app, evil)


@contextmanager
def opened(browser: Browser, *, script: bool = True) -> Iterator[BrowserContext]:
    """A browser of a person, whose pages break no rule of their policy."""
    context = browser.new_context(java_script_enabled=script, reduced_motion="reduce")
    yield context
    context.close()


def log_in_there(page: Page, name: str) -> None:
    """Logs in at the provider, and allows it to tell who is there."""
    page.locator("input[name=login]").fill(name)
    page.locator("input[name=password]").fill("x")
    page.get_by_role("button").first.click()
    page.get_by_role("button", name="Continue").click()


def begin(page: Page, place: Place, button: str, target: str) -> None:
    """Begins a visit to a provider by a button of the page to sign in."""
    page.goto(f"{place.service.url}/account/sign-in?next={target}")
    page.get_by_role("button", name=f"Continue with {button} ID").click()


@pytest.mark.parametrize("script", [True, False], ids=["script", "no script"])
@pytest.mark.parametrize("button", ["Acme", "Es", "Post"])
def test_a_person_signs_in(browser: Browser, place: Place, button: str, script: bool) -> None:
    name = f"{button.lower()}-{script}".lower()
    with opened(browser, script=script) as context:
        page = context.new_page()
        begin(page, place, button, "/account/security")
        log_in_there(page, name)
        if button == "Post" and not script:
            page.get_by_role("button").click()  # the form of the provider, which a script sends
        page.wait_for_url("**/account/security")
        expect(page.get_by_text(f"{name}@example.com").first).to_be_visible()
        cookies = {it["name"]: it for it in context.cookies(place.service.url)}
        assert cookies["authapi"]["sameSite"] == "Lax"
        assert cookies["authapi"]["expires"] == -1
        assert all(it["httpOnly"] for it in cookies.values())


@pytest.mark.parametrize("script", [True, False], ids=["script", "no script"])
def test_a_person_stays_signed_in_and_comes_from_the_page_to_sign_up(
    browser: Browser, place: Place, script: bool
) -> None:
    with opened(browser, script=script) as context:
        page = context.new_page()
        page.goto(f"{place.service.url}/account/sign-in?next=/account/security")
        page.get_by_label("Keep me signed in on this device").check()
        # The passkeys of the page have the same separator.
        expect(page.get_by_text("or", exact=True)).to_have_count(1)
        expect(page.get_by_text("or", exact=True)).to_be_visible()
        page.get_by_role("button", name="Continue with Acme ID").click()
        log_in_there(page, f"stays-{script}".lower())
        page.wait_for_url("**/account/security")
        [cookie] = [it for it in context.cookies(place.service.url) if it["name"] == "authapi"]
        assert cookie["expires"] > 0
    with opened(browser, script=script) as context:
        page = context.new_page()
        page.goto(f"{place.service.url}/account/sign-up?next=/account/security")
        page.get_by_role("link", name="Continue with Acme ID").click()
        log_in_there(page, f"up-{script}".lower())
        page.wait_for_url("**/account/security")


def test_a_code_for_a_page_of_another_origin(browser: Browser, place: Place) -> None:
    with opened(browser) as context:
        page = context.new_page()
        page.goto(place.app)
        page.get_by_role("button", name="Go").click()
        log_in_there(page, "spa")
        expect(page.locator("#who")).to_have_text("spa@example.com jwt?mine=1")
        assert not [it for it in context.cookies(place.service.url) if it["name"] == "authapi"]


def test_a_foreign_page_signs_mailless_in(browser: Browser, place: Place) -> None:
    with opened(browser) as context:
        page = context.new_page()
        for role in ("link", "button"):
            page.goto(place.evil)
            page.get_by_role(role, name="link" if role == "link" else "form").click()
            page.wait_for_url(f"{place.service.url}/login/with/acme**")
            assert "foreign_origin" in page.content()
        page.goto(place.evil)
        frame = page.frames[-1]
        assert "Sign in" not in frame.content()
        assert context.cookies(place.service.url) == []


def test_a_stolen_callback_is_of_no_use(browser: Browser, place: Place) -> None:
    with opened(browser) as thief, opened(browser) as victim:
        page = thief.new_page()
        stolen: list[str] = []

        def keep(request: Request) -> None:
            if "/callback?" in request.url:
                stolen.append(request.url)

        page.on("request", keep)
        # The answer does not reach the service before it is stolen.
        page.route("**/login/with/acme/callback?*", lambda route: route.abort())
        page.goto(f"{place.service.url}/account/sign-in")
        page.get_by_role("button", name="Continue with Acme ID").click()
        page.locator("input[name=login]").fill("thief")
        page.locator("input[name=password]").fill("x")
        page.get_by_role("button").first.click()
        with page.expect_request("**/callback?*"):
            page.get_by_role("button", name="Continue").click()
        other = victim.new_page()
        other.goto(stolen[0])
        expect(other.get_by_text("was not begun in this browser")).to_be_visible()
        assert not [it for it in victim.cookies(place.service.url) if it["name"] == "authapi"]


def test_two_tabs_and_the_way_back(browser: Browser, place: Place) -> None:
    with opened(browser) as context:
        first, second = context.new_page(), context.new_page()
        for page, target in ((first, "/account/security"), (second, "/account/devices")):
            begin(page, place, "Acme", target)
        log_in_there(second, "tabs")
        second.wait_for_url("**/account/devices")
        first.locator("input[name=login]").fill("tabs")
        first.locator("input[name=password]").fill("x")
        first.get_by_role("button").first.click()  # it was allowed in the other tab
        first.wait_for_url("**/account/security")
        # The callback is in no history, and the page before still works.
        first.go_back()
        assert "/callback" not in first.url
        first.goto(f"{place.service.url}/account/security")
        expect(first.get_by_text("Acme ID").first).to_be_visible()


@pytest.mark.parametrize("script", [True, False], ids=["script", "no script"])
def test_an_account_is_connected_and_disconnected(
    browser: Browser, place: Place, axe: str, script: bool
) -> None:
    address = place.service.register("en")
    with opened(browser) as context:
        page = context.new_page()
        checks = Axe(page, axe, has_script=script)
        page.goto(f"{place.service.url}/account/sign-in?next=/account/security")
        assert checks.violations() == []
        page.locator("input[name=email]").fill(address)
        page.locator("input[name=password]").fill(PASSWORD)
        page.get_by_role("button", name="Sign in", exact=True).click()
        page.get_by_role("link", name="Connect Acme ID").click()
        assert checks.violations() == []
        page.get_by_role("button", name="Connect Acme ID").click()
        # The page leads on by itself.
        log_in_there(page, f"link-{script}".lower())
        expect(page.get_by_text("That account signs you in from now on.")).to_be_visible()
        assert checks.violations() == []
        page.get_by_role("link", name="Disconnect Acme ID").click()
        assert checks.violations() == []
        page.get_by_role("button", name="Disconnect Acme ID").click()
        expect(page.get_by_text("That account is disconnected")).to_be_visible()
        expect(page.get_by_role("link", name="Connect Acme ID")).to_be_visible()


def test_a_person_who_cancels_is_told(browser: Browser, place: Place) -> None:
    with opened(browser) as context:
        page = context.new_page()
        begin(page, place, "Acme", "/account/data")
        page.get_by_role("link", name="Cancel").click()
        expect(page.get_by_text("The other website did not sign you in.")).to_be_visible()
        expect(page.locator("input[name=next]").first).to_have_value("/account/data")


def test_a_person_without_an_address_gives_one(browser: Browser, place: Place) -> None:
    with opened(browser) as context:
        page = context.new_page()
        begin(page, place, "Acme", "/account/security")
        log_in_there(page, "mailless")
        expect(page.get_by_role("heading", level=1)).to_have_text("Your e-mail address")
        page.locator("input[name=email]").fill("given@example.com")
        page.get_by_role("button", name="Continue").click()
        page.wait_for_url("**/account/security")
        expect(page.get_by_text("Acme ID").first).to_be_visible()


def test_the_address_of_another_account_is_not_enough(browser: Browser, place: Place) -> None:
    address = place.service.register("en")
    name = address.partition("@")[0]
    with opened(browser) as context:
        page = context.new_page()
        page.goto(f"{place.service.url}/account/sign-in")
        page.get_by_role("button", name="Continue with Acme ID").click()
        log_in_there(page, name)
        expect(page.get_by_text("There is an account with the e-mail address")).to_be_visible()
        page.locator("input[name=email]").fill(address)
        page.locator("input[name=password]").fill(PASSWORD)
        page.get_by_role("button", name="Sign in", exact=True).click()
        page.wait_for_url("**/account/security")
        expect(page.get_by_role("link", name="Connect Acme ID")).to_be_visible()


def test_the_providers_are_listed_for_programs(place: Place) -> None:
    with httpx.Client(trust_env=False) as http:
        listed = http.get(f"{place.service.url}/login/with").json()
    assert [it["name"] for it in listed] == ["acme", "es", "post"]
