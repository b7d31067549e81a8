"""From which addresses the console can be opened."""

from collections.abc import Mapping
from typing import Any

import pytest
from starlette.requests import HTTPConnection

from authapi.domain.client import on_behalf_of, read_client
from authapi.settings import Settings
from authapi.web.context import SCOPE_KEY, RequestContext, Runtime
from authapi.web.middleware.client import trusted_networks
from authapi.web.pages.console_access import is_admitted
from tests.conftest import SettingsFactory
from tests.web.logins import sign_in
from tests.web.pages.scenes import create_person, open_browser

VPN, PROXY, ELSEWHERE = "10.8.0.7", "192.0.2.1", "203.0.113.9"


def admits(settings: Settings, peer: str | None, **headers: str) -> bool:
    """Whether a request of this peer with these headers is admitted."""
    raw = [(name.replace("_", "-").encode(), text.encode()) for name, text in headers.items()]
    services: Any = type("Services", (), {"settings": settings})()
    runtime = Runtime(settings, registry=None, services_if_any=services)  # type: ignore[arg-type]  # not read
    client = None if peer is None else (peer, 1)
    scope: dict[str, Any] = {"type": "http", "headers": raw, "client": client}
    scope[SCOPE_KEY] = RequestContext(runtime, "id")
    trusted = trusted_networks(settings)
    found = read_client(raw, client, trusted=trusted, request_id="id", on_malformed=lambda _: None)
    with on_behalf_of(lambda: found):
        return is_admitted(HTTPConnection(scope))


@pytest.mark.parametrize(
    ("peer", "headers", "admitted"),
    [
        (VPN, {}, True),
        (f"::ffff:{VPN}", {}, True),
        ("fd00::7", {}, True),
        (ELSEWHERE, {}, False),
        (None, {}, False),
        ("not an address", {}, False),
        (PROXY, {"x_forwarded_for": VPN}, True),
        (PROXY, {"x_forwarded_for": f"{ELSEWHERE}, {VPN}"}, True),
        (PROXY, {"x_forwarded_for": f"{VPN}, {ELSEWHERE}"}, False),
        (PROXY, {"x_forwarded_for": "unknown"}, False),
        (PROXY, {"x_real_ip": VPN}, False),
        (PROXY, {}, False),
        (ELSEWHERE, {"x_forwarded_for": VPN}, False),
        # A proxy in the network that is not named as one: its clients are unknown.
        (VPN, {"x_forwarded_for": VPN}, False),
        (VPN, {"forwarded": f"for={VPN}"}, False),
        (VPN, {"via": "1.1 cache"}, False),
        (VPN, {"x_real_ip": VPN}, False),
        (VPN, {"cf_connecting_ip": VPN}, False),
        (VPN, {"x_forwarded_proto": "https"}, False),
    ],
)
def test_the_address_decides(
    make_settings: SettingsFactory, peer: str | None, headers: Mapping[str, str], admitted: bool
) -> None:
    settings = make_settings(
        console_networks=("10.8.0.0/16", "fd00::/8"), trusted_proxies=("192.0.2.0/24",)
    )
    assert admits(settings, peer, **headers) is admitted


@pytest.mark.parametrize("headers", [{}, {"x_forwarded_for": VPN}, {"forwarded": "for=x"}])
def test_without_networks_each_address_is_admitted(
    make_settings: SettingsFactory, headers: Mapping[str, str]
) -> None:
    for peer in (VPN, ELSEWHERE, None):
        assert admits(make_settings(), peer, **headers)


async def test_the_console_does_not_exist_elsewhere(make_settings: SettingsFactory) -> None:
    settings = make_settings(console_networks=("127.0.0.0/8",))
    async with open_browser(settings) as browser:
        root = await create_person(browser.client, is_superuser=True)
        browser.client.headers.update(await sign_in(browser.client.services, root))
        assert (await browser.open("/console/people")).status == 200
        assert "Console" in (await browser.open("/account")).root.text
        for name in ("x-forwarded-for", "forwarded", "x-real-ip"):
            browser.client.headers[name] = "127.0.0.1"
            for method in ("GET", "POST"):
                answer = await browser.request(method, "/console/people/new", headers={})
                assert answer.status_code == 404
            assert "Console" not in (await browser.open("/account")).root.text
            del browser.client.headers[name]
