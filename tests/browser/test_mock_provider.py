"""Logins at oidc-provider-mock of PyPI, in Chromium, by the pages of `authapi serve`."""

import json
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.installations import Installation, installed
from tests.servers.mock_provider import mock_provider
from tests.servers.process import free_port

pytestmark = [pytest.mark.browser, pytest.mark.slow]

PEOPLE: list[dict[str, object]] = [
    {"sub": "carol", "email": "carol@example.com", "email_verified": True, "name": "Carol"},
    {"sub": "dave", "email": "dave@example.com", "email_verified": False},
    {"sub": "erin"},
]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with mock_provider(tmp_path_factory.mktemp("provider"), free_port(), PEOPLE) as issuer:
        acme = {
            "issuer": issuer,
            "client_id": "a-client",
            "client_secret": "a-secret",
            "title": "Acme ID",
            "trusted_email_domains": ["example.com"],
        }
        with installed(
            tmp_path_factory.mktemp("service"),
            free_port(),
            AUTHAPI_PROVIDERS=json.dumps({"acme": acme}),
            AUTHAPI_REGISTRATION="confirm",
        ) as found:
            yield found


def begin(page: Page, service: Installation) -> None:
    page.goto(f"{service.url}/account/sign-in?next=/account/security")
    page.get_by_role("button", name="Continue with Acme ID").click()


def log_in(page: Page, service: Installation, name: str) -> None:
    begin(page, service)
    page.get_by_role("button", name=name, exact=True).first.click()


@pytest.mark.parametrize("script", [True, False], ids=["script", "no script"])
def test_a_person_signs_in_and_comes_back(
    browser: Browser, service: Installation, script: bool
) -> None:
    for _ in range(2):  # the first visit creates the account
        context = browser.new_context(java_script_enabled=script)
        page = context.new_page()
        log_in(page, service, "carol")
        page.wait_for_url("**/account/security")
        expect(page.get_by_text("carol@example.com").first).to_be_visible()
        context.close()


@pytest.mark.parametrize("name", ["dave", "erin"])
def test_an_address_that_is_not_verified_is_asked_for_and_confirmed(
    browser: Browser, service: Installation, name: str
) -> None:
    context = browser.new_context()
    page = context.new_page()
    log_in(page, service, name)
    page.get_by_label("E-mail address").fill(f"{name}@example.com")
    page.get_by_role("button", name="Continue", exact=True).click()
    page.wait_for_url("**/check-mail**")
    page.goto(service.link("confirm", f"{name}@example.com"))
    page.get_by_role("button", name="Confirm and sign in").click()
    page.wait_for_url("**/account/security")
    context.close()
    context = browser.new_context()
    page = context.new_page()
    log_in(page, service, name)
    page.wait_for_url("**/account/security")
    context.close()


def test_a_person_who_refuses_there_is_told_here(browser: Browser, service: Installation) -> None:
    context = browser.new_context()
    page = context.new_page()
    begin(page, service)
    page.get_by_role("button", name="Deny").click()
    page.wait_for_url("**/account/sign-in?**")
    expect(page.get_by_role("button", name="Continue with Acme ID")).to_be_visible()
    # This provider leaves out `state` in an error. It is told, and ends no login.
    assert page.url.endswith("?done=provider-refused")
    assert not [it for it in context.cookies(service.url) if it["name"] == "authapi"]
    context.close()
