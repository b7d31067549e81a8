"""Names of devices and clients on pages."""

import pytest

from authapi import Settings
from authapi.domain.client import Client
from authapi.web.pages.account.device_names import client_name, device_name
from authapi.web.pages.site import Site

WINDOWS = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) Chrome/142.0.0.0 Safari/537.36"
IP = "203.0.113.7"
SEAMONKEY = "Mozilla/5.0 (X11; FreeBSD amd64; rv:120.0) Gecko/20100101 SeaMonkey/2.53"
MARKUP = "<script>alert(1)</script> Mozilla"


@pytest.fixture(scope="module")
def site() -> Site:
    return Site(Settings.isolated())


@pytest.mark.parametrize(
    ("user_agent", "english", "korean"),
    [
        (WINDOWS, "Chrome on Windows", "Windows의 Chrome"),
        ("curl/8.14.1", "curl", "curl"),
        ("Mozilla/5.0 (iPhone; like Mac OS X)", "iOS", "iOS"),
        (SEAMONKEY, "SeaMonkey on FreeBSD", "FreeBSD의 SeaMonkey"),
        ("Mozilla/5.0 (SMART-TV; Tizen 2.3)", "Tizen", "Tizen"),
        ("Mozilla/5.0 (compatible; evil.example/bot)", "Unknown device", "알 수 없는 기기"),
        (f"Mozilla/5.0 ({'Long' * 9}bot/1)", "Unknown device", "알 수 없는 기기"),
        ("", "Unknown device", "알 수 없는 기기"),
        (MARKUP, "Unknown device", "알 수 없는 기기"),
        (None, "Unknown device", "알 수 없는 기기"),
    ],
    ids=range(10),
)
def test_a_device_has_a_name(site: Site, user_agent: str | None, english: str, korean: str) -> None:
    assert device_name(site, "en", user_agent) == english
    assert device_name(site, "ko", user_agent) == korean


@pytest.mark.parametrize(
    ("client", "name"),
    [
        (Client(IP, WINDOWS), f"Chrome on Windows, {IP}"),
        (Client(None, WINDOWS), "Chrome on Windows"),
        (Client(IP), IP),
        (Client(), ""),
    ],
    ids=range(4),
)
def test_a_client_has_a_device_and_an_address(site: Site, client: Client, name: str) -> None:
    assert client_name(site, "en", client) == name
