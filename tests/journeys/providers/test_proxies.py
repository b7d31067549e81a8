"""Logins at providers behind the shipped proxies, by https, below a path and below a prefix."""

import html
import re
import secrets
import ssl
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, urljoin, urlsplit

import httpx
import pytest

from tests.journeys.providers.service import (
    NAVIGATION,
    People,
    Visitor,
    environment_of,
    new_name,
)
from tests.proxies.testbed.backends import ROOT, Backend
from tests.proxies.testbed.proxies import Proxies
from tests.servers.process import ServeProcess, free_port

pytestmark = pytest.mark.slow

STRIPPED = {
    "nginx": ("location / {\n", "location / {\n        rewrite ^/outside(/.*)$ $1 break;\n"),
    "caddy": ("\treverse_proxy ", "\turi strip_prefix /outside\n\treverse_proxy "),
}
"""A proxy that removes a path which only browsers see."""
SERVE = [sys.executable, "-m", "authapi", "serve"]


@dataclass(frozen=True)
class Shape:
    """How a service is installed."""

    proxy: str
    outside: str = ""
    """The path that the proxy removes."""
    prefix: str = ""
    """The prefix below which an application installs authapi."""
    is_application: bool = False
    options: tuple[str, ...] = ()
    """Of uvicorn."""


SHAPES = {
    "caddy": Shape("caddy"),
    "nginx": Shape("nginx"),
    "caddy, path removed": Shape("caddy", outside="/outside"),
    "nginx, path removed": Shape("nginx", outside="/outside"),
    "application below a prefix": Shape("nginx", prefix="/api/v1/auth", is_application=True),
    "application with a root path": Shape(
        "caddy",
        outside="/outside",
        prefix="/auth",
        is_application=True,
        options=("--root-path", "/outside"),
    ),
}


@dataclass(frozen=True)
class Outside:
    """A service as a browser sees it."""

    url: str
    """The address of authapi."""
    trust: ssl.SSLContext
    is_caddy: bool

    @property
    def origin(self) -> str:
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}"

    def visitor(self, stack: ExitStack, **headers: str) -> Visitor:
        """Returns a browser, whose requests have these headers."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return stack.enter_context(Visitor(self.url, trust=self.trust, headers=named))


@pytest.fixture(params=list(SHAPES))
def outside(
    request: pytest.FixtureRequest, tmp_path: Path, sqlite_url: str, acme: People
) -> Iterator[Outside]:
    shape = SHAPES[request.param]
    port, public = free_port(), free_port()
    root = f"https://localhost:{public}{shape.outside}"
    trusted = ["example.com"]
    environment = environment_of(
        tmp_path,
        sqlite_url,
        {"acme": acme.options(trusted_email_domains=trusted)},
        port,
        AUTHAPI_PUBLIC_URL=root,
        AUTHAPI_TRUSTED_PROXIES="127.0.0.0/8",
        AUTHAPI_RETURN_ORIGINS="https://app.example",
        TEST_PREFIX=shape.prefix,
    )
    command = SERVE
    if shape.is_application:
        command = [sys.executable, "-m", "uvicorn", "tests.journeys.providers.applications:app"]
        command += ["--app-dir", str(ROOT), "--port", str(port), *shape.options]
        environment["PYTHONPATH"] = str(ROOT)
    with ServeProcess(command, environment, tmp_path) as process, ExitStack() as stack:
        process.wait_ready(f"http://127.0.0.1:{port}{shape.prefix}/health/ready", timeout=120)
        proxies = Proxies(tmp_path, STRIPPED if shape.outside else None)
        stack.callback(proxies.close)
        backend = Backend("providers", port, process, ready=f"{shape.prefix}/health/ready")
        address = proxies.address(shape.proxy, backend, "strict", port=public)
        assert address.trust is not None
        yield Outside(f"{root}{shape.prefix}", address.trust, shape.proxy == "caddy")
        assert "Traceback" not in process.output(), process.output()


HOSTILE = {
    "x_forwarded_host": "evil.example",
    "x_forwarded_proto": "http",
    "x_forwarded_port": "1",
    "x_forwarded_prefix": "/evil",
    "x_original_url": "/evil",
    "x_rewrite_url": "/evil",
    "x_script_name": "/evil",
    "forwarded": "host=evil.example;proto=http",
}
EVIL_HOST = {**HOSTILE, "host": "evil.example"}


def addresses_in(page: httpx.Response, at: str) -> list[str]:
    """The addresses in a page that has the address `at`, as a browser follows them."""
    found = re.findall(r'(?:href|src|action|formaction)="([^"]*)"', page.text)
    return [urljoin(at, html.unescape(it)) for it in found]


def redirect_uri_in(url: str) -> str:
    return dict(parse_qsl(urlsplit(url).query))["redirect_uri"]


def test_a_person_logs_in_links_and_is_refused(outside: Outside, acme: People) -> None:
    # Caddy has no site for another host.
    for headers in ({}, HOSTILE, HOSTILE if outside.is_caddy else EVIL_HOST):
        with ExitStack() as stack:
            _visit(outside, outside.visitor(stack, **headers), acme)


def _visit(outside: Outside, browser: Visitor, acme: People) -> None:
    url, person = outside.url, new_name()
    page = browser.get("/account/sign-in", headers=NAVIGATION)
    assert page.status_code == 200, page.text
    seen = addresses_in(page, f"{url}/account/sign-in")
    assert all(it.startswith(f"{url}/") for it in seen), seen
    [listed] = browser.get("/login/with").json()
    assert listed["start"] == urlsplit(url).path + "/login/with/acme"
    # By the button of the page, and by a script.
    sent = browser.post("/account/sign-in", data={"provider": "acme", "remember": "on"})
    assert sent.status_code == 200, sent.text
    [refresh] = re.findall(r'http-equiv="refresh" content="0; ?url=([^"]*)"', sent.text)
    callback = f"{url}/login/with/acme/callback"
    assert redirect_uri_in(html.unescape(refresh)) == callback
    started = browser.post("/login/with/acme", json={"continue": f"{outside.origin}/in?a=1"})
    [cookie] = started.headers.get_list("set-cookie")
    assert re.fullmatch(
        r"__Host-authapi-flow-[\w-]{8}=[\w-]+; Path=/; HttpOnly; SameSite=Lax; Secure; "
        r"Max-Age=600",
        cookie,
    ), cookie
    came = browser.at_provider(started.json()["url"], person)
    assert came.startswith(f"{callback}?")
    assert browser.come_back(came).headers["location"] == f"{outside.origin}/in?a=1"
    assert browser.me() == f"{person}@example.com"
    assert all(it.startswith("__Host-") for it in browser.cookies)
    # A login without a target ends at home, by relative redirects.
    at = browser.at_provider(html.unescape(refresh), person)
    answer = browser.come_back(at)
    while answer.status_code == 303:
        at = urljoin(at, answer.headers["location"])
        assert at.startswith(f"{url}/account"), at
        answer = browser.come_back(at)
    assert answer.status_code == 200
    assert all(it.startswith(f"{url}/") for it in addresses_in(answer, at)), at
    # A second person is linked on the page of the account; a third one cancels.
    second = browser.at_provider(browser.begin_link(), f"{person}second")
    done = urljoin(second, browser.come_back(second).headers["location"])
    assert done.startswith(f"{url}/account"), done
    assert len(browser.identities()) == 2
    state = dict(parse_qsl(urlsplit(browser.begin_link()).query))["state"]
    refused = browser.come_back(f"{callback}?error=access_denied&state={state}")
    led = urljoin(callback, refused.headers["location"])
    assert led == f"{url}/account/security?done=provider-refused"
    # The answer of a provider by POST.
    posted = browser.post("/login/with/acme/callback", data={"code": "a", "state": state})
    assert urljoin(callback, posted.headers["location"]).startswith(f"{callback}?")
    # What decides is the public address, and no header.
    for wanted in ("https://evil.example/", "http://evil.example/x", "//evil.example"):
        answer = browser.post("/login/with/acme", json={"continue": wanted})
        assert answer.status_code == 422, answer.text
    for origin in ("https://evil.example", "http://evil.example", "null"):
        answer = browser.post("/login/with/acme", json={}, headers={"origin": origin})
        assert answer.status_code == 403, answer.text
        answer = browser.get("/login/with/acme", headers={"referer": f"{origin}/"})
        assert answer.status_code == 403, answer.text
    answer = browser.post("/login/with/acme", json={}, headers={"origin": outside.origin})
    assert answer.status_code == 200, answer.text
    answer = browser.get("/login/with/acme", headers={"referer": f"{url}/account/sign-up"})
    assert redirect_uri_in(answer.headers["location"]) == callback


def test_long_cookies_and_addresses_pass(outside: Outside, acme: People) -> None:
    person = new_name()
    acme.about[person] = {"email": None, "name": "n" * 200, "about": secrets.token_hex(700)}
    with ExitStack() as stack:
        browser = outside.visitor(stack)
        url = [browser.begin(to=f"/in?{secrets.token_hex(995)}") for _ in range(5)][-1]
        back = browser.come_back(browser.at_provider(url, person))
        assert back.status_code == 303, (back.status_code, back.text)
        assert len(str(back.headers)) > 5000  # more than nginx reads by default
        answer = browser.post("/account/sign-in/address", data={"email": f"{person}@example.net"})
        assert answer.status_code == 303, (answer.status_code, answer.text)
        assert browser.me() == f"{person}@example.net"
