"""/.well-known/change-password and /.well-known/passkey-endpoints, which password managers ask."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from authapi import AuthAPI, ConfigurationError, create_app
from authapi.testing import Client, client
from tests.conftest import SettingsFactory
from tests.web.responses import check_headers, problem

CHANGE = "/.well-known/change-password"
ENDPOINTS = "/.well-known/passkey-endpoints"
NOTHING = "/.well-known/resource-that-should-not-exist-whose-status-code-should-not-be-200"
"""Clients trust the status of the others only if this one is not 200 (W3C, Detecting the
reliability of HTTP status codes)."""
PAGE = "https://shop.example.com/security"


@asynccontextmanager
async def service(make_settings: SettingsFactory, **changes: Any) -> AsyncIterator[Client]:
    async with client(create_app(make_settings(**changes))) as api:
        yield api


def leads_to(answer: httpx.Response) -> str:
    """Where a redirect leads."""
    assert answer.status_code == 302
    assert answer.headers["cache-control"] == "no-store"
    return str(answer.headers["location"])


async def test_they_name_the_page_of_the_application(make_settings: SettingsFactory) -> None:
    async with service(make_settings, security_link=PAGE) as api:
        answer = await api.get(CHANGE)
        assert leads_to(answer) == PAGE
        # Neither the host nor a parameter of the request changes where it leads.
        asked = {"host": "evil.example", "x-forwarded-host": "evil.example"}
        assert leads_to(await api.get(f"{CHANGE}?next=//evil.example", headers=asked)) == PAGE
        found = await api.get(ENDPOINTS)
        check_headers(found)
        assert (found.status_code, found.json()) == (200, {"enroll": PAGE, "manage": PAGE})
        problem(await api.get(NOTHING), 404, "not_found")


async def test_without_a_page_they_name_the_built_in_ones(make_settings: SettingsFactory) -> None:
    async with service(make_settings) as api:
        base = f"{api.services.settings.issuer}/account/security"
        assert leads_to(await api.get(CHANGE)) == f"{base}/password"
        found = (await api.get(ENDPOINTS)).json()
        assert found == {"enroll": f"{base}/passkeys", "manage": base}
        for url in (f"{base}/password", *found.values()):
            led = await api.get(httpx.URL(url).path)
            assert led.headers["location"].partition("?")[0].endswith("sign-in")


async def test_without_pages_of_an_account_a_mail_resets_the_password(
    make_settings: SettingsFactory,
) -> None:
    async with service(make_settings, pages="mail") as api:
        location = leads_to(await api.get(CHANGE))
        assert location == f"{api.services.settings.issuer}/account/forgot"
        assert "forgot" in (await api.get(httpx.URL(location).path)).text
        problem(await api.get(ENDPOINTS), 404, "not_found")
        problem(await api.get(NOTHING), 404, "not_found")


async def test_without_page_and_mail_there_is_nothing(make_settings: SettingsFactory) -> None:
    async with service(make_settings, pages="mail", mail_url=SecretStr("none:")) as api:
        problem(await api.get(CHANGE), 404, "not_found")
    async with service(make_settings, mail_url=SecretStr("none:"), security_link=PAGE) as api:
        assert leads_to(await api.get(CHANGE)) == PAGE


@pytest.mark.parametrize(
    "changes",
    [{"passkeys": "off"}, {"mfa": "off"}, {"public_url": "http://192.0.2.1:8000"}],
    ids=str,
)
async def test_endpoints_are_for_passkeys_that_can_be_added(
    make_settings: SettingsFactory, changes: dict[str, str]
) -> None:
    async with service(make_settings, security_link=PAGE, **changes) as api:
        problem(await api.get(ENDPOINTS), 404, "not_found")
        assert leads_to(await api.get(CHANGE)) == PAGE
        assert ENDPOINTS not in (await api.get("/openapi.json")).json()["paths"]


async def test_they_belong_to_the_host_of_an_application(make_settings: SettingsFactory) -> None:
    for link in (PAGE, None):
        auth = AuthAPI(make_settings(security_link=link))
        app = FastAPI(lifespan=auth.lifespan)
        auth.install(app, prefix="/api/auth")
        async with client(app) as api:
            expected = link or f"{auth.settings.issuer}/account/security/password"
            assert leads_to(await api.get(CHANGE)) == expected
            assert expected.startswith("https://shop") or "/api/auth/account/" in expected
            assert (await api.get(ENDPOINTS)).status_code == 200
            for path in (f"/api/auth{CHANGE}", f"/api/auth{ENDPOINTS}", NOTHING):
                assert (await api.get(path)).status_code == 404


async def test_an_application_without_our_pages_has_no_redirect_to_them(
    make_settings: SettingsFactory,
) -> None:
    auth = AuthAPI(make_settings())
    app = FastAPI(lifespan=auth.lifespan)
    auth.install(app, include=["login", "change_password"])
    async with client(app) as api:
        assert (await api.get(CHANGE)).status_code == 404


@pytest.mark.parametrize(
    "link",
    [
        *("http://shop.example.com/x", "javascript:alert(1)", "//shop.example.com", "/security"),
        *("https://a@shop.example.com", "https://shop.example.com/\r\nSet-Cookie: a=b", "", "x y"),
        *("https://[::1", "https://shop.example.com/ü", "https://shop.example.com:x/"),
        *("https://shop.example.com:99999", "https://shop.example.com:0/"),
    ],
)
def test_the_page_is_a_url_of_https(make_settings: SettingsFactory, link: str) -> None:
    with pytest.raises((ConfigurationError, ValueError), match="must be an https URL"):
        make_settings(security_link=link)
    assert make_settings(security_link="http://localhost:3000/x").security_link
