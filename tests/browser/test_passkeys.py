"""Passkeys in Chromium: the files of docs/passkeys-javascript.md, and virtual authenticators."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Frame, Route, expect

from authapi.testing import PASSWORD
from tests.browser.answers import fetched
from tests.browser.passkeys import CALL, Tab, running, serving

pytestmark = pytest.mark.browser

PREFIX = "/api/v1/auth"


@pytest.fixture(scope="module")
def application(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of the documented application."""
    with running(tmp_path_factory.mktemp("application")) as url:
        yield url


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    with browser.new_context() as context:
        yield context


@pytest.fixture
def tab(context: BrowserContext, application: str) -> Tab:
    """A page of the application that runs no script, whose account is logged in."""
    tab = Tab(context, application)
    tab.open("/unprotected")
    tab.register_account()
    return tab


def test_a_passkey_is_registered_and_logs_in(tab: Tab) -> None:
    authenticator = tab.add_authenticator()
    added = tab.call("register", "My laptop")["value"]
    assert (added["passkey"]["name"], len(added["recovery_codes"])) == ("My laptop", 10)
    [credential] = authenticator.credentials()
    assert (credential["rpId"], credential["isResidentCredential"]) == ("localhost", True)
    tab.log_out()
    assert tab.call("logIn", {"remember": True})["value"]["user"]["email"] == tab.email
    identity = tab.identity()
    assert identity is not None
    assert (identity["strategy"], identity["acr"]) == ("session", "phr")


def test_autofill_logs_in_without_a_click(tab: Tab) -> None:
    tab.add_authenticator()
    assert tab.call("register", "My laptop")["value"]
    tab.log_out()
    assert tab.page.evaluate("PublicKeyCredential.isConditionalMediationAvailable()") is True
    tab.open()
    expect(tab.page.get_by_role("status")).to_have_text(f"Signed in as {tab.email}.")
    identity = tab.identity()
    assert identity is not None
    assert identity["acr"] == "phr"


def test_a_button_ends_the_autofill_that_waits(tab: Tab) -> None:
    authenticator = tab.add_authenticator()
    assert tab.call("register", "My laptop")["value"]
    tab.log_out()
    authenticator.set_present(False)
    tab.record()
    tab.open()
    assert tab.asked(1) == [("conditional", "waits")]
    authenticator.set_present(True)  # for the next request: Chromium does not ask again
    tab.page.get_by_role("button", name="Sign in with a passkey").click()
    expect(tab.page.get_by_role("status")).to_have_text(f"Signed in as {tab.email}.")
    assert tab.asked(2) == [("conditional", "AbortError"), ("optional", "answered")]


def test_autofill_waits_again_after_a_button(tab: Tab) -> None:
    authenticator = tab.add_authenticator()
    assert tab.call("register", "My laptop")["value"]
    tab.log_out()
    authenticator.set_present(False)
    tab.record()
    tab.open()
    tab.asked(1)
    authenticator.set_verified(False)
    authenticator.set_present(True)
    tab.page.get_by_role("button", name="Sign in with a passkey").click()
    expect(tab.page.get_by_role("status")).to_have_text("No passkey was used.")
    assert tab.asked(3)[:2] == [("conditional", "AbortError"), ("optional", "NotAllowedError")]
    assert tab.asked(3)[2][0] == "conditional"


def test_autofill_gets_new_options_before_they_expire(tab: Tab) -> None:
    authenticator = tab.add_authenticator(is_present=False)
    tab.record()
    tab.page.clock.install()
    tab.open()
    tab.asked(1)
    tab.page.clock.run_for(239_000)
    assert tab.asked(1) == [("conditional", "waits")]
    with tab.page.expect_response("**/login/passkey/options"):
        tab.page.clock.run_for(2_000)
    assert tab.asked(2) == [("conditional", "renewed"), ("conditional", "waits")]
    expect(tab.page.get_by_role("status")).to_be_empty()
    assert authenticator.credentials() == []


def test_an_authenticator_has_one_passkey_of_an_account(tab: Tab) -> None:
    authenticator = tab.add_authenticator()
    assert tab.call("register", "My laptop")["value"]
    assert tab.call("register", "Again")["error"] == "InvalidStateError"
    assert len(authenticator.credentials()) == 1


def test_an_unverified_user_does_not_log_in(tab: Tab) -> None:
    authenticator = tab.add_authenticator()
    assert tab.call("register", "My laptop")["value"]
    tab.log_out()
    authenticator.set_verified(False)
    assert tab.call("logIn")["error"] == "NotAllowedError"
    assert tab.identity() is None
    authenticator.set_verified(True)
    assert tab.call("logIn")["value"]


def test_possession_is_enough_after_a_password(tab: Tab) -> None:
    authenticator = tab.add_authenticator()
    assert tab.call("register", "My laptop")["value"]
    tab.log_out()
    authenticator.set_verified(False)
    refused = tab.log_in_by_password()
    assert (refused["status"], refused["code"]) == (401, "second_factor_required")
    assert "passkey" in refused["methods"]
    assert tab.identity() is None
    assert tab.call("secondFactor")["value"]["user"]["email"] == tab.email
    identity = tab.identity()
    assert identity is not None
    assert (identity["amr"], identity["acr"]) == (["pwd", "pop", "mfa"], "phr")


def test_the_form_asks_for_the_passkey_after_the_password(tab: Tab) -> None:
    authenticator = tab.add_authenticator()
    assert tab.call("register", "My laptop")["value"]
    tab.log_out()
    authenticator.set_verified(False)  # autofill cannot use the passkey
    tab.open()
    tab.page.get_by_label("E-mail").fill(tab.email)
    tab.page.get_by_label("Password").fill(PASSWORD)
    tab.page.get_by_role("button", name="Sign in", exact=True).click()
    expect(tab.page.get_by_role("status")).to_have_text(f"Signed in as {tab.email}.")


def test_a_passkey_steps_up(tab: Tab) -> None:
    tab.add_authenticator()
    code = tab.call("register", "My laptop")["value"]["recovery_codes"][0]
    tab.log_out()
    assert tab.log_in_by_password()["code"] == "second_factor_required"
    assert tab.call("post", "/login/second-factor", {"recovery_code": code})["value"]
    status, problem = tab.request("GET", "/keys")
    assert (status, problem["code"]) == (401, "insufficient_authentication")
    assert problem["acr_values"] == "phr"
    assert tab.call("stepUp") == {"value": None}
    assert tab.request("GET", "/keys") == (200, tab.email)


def test_a_removed_passkey_is_refused_and_forgotten(tab: Tab) -> None:
    authenticator = tab.add_authenticator()
    passkey = tab.call("register", "My laptop")["value"]["passkey"]
    assert tab.request("DELETE", f"/me/factors/passkeys/{passkey['id']}")[0] == 204
    tab.log_out()
    assert len(authenticator.credentials()) == 1
    refused = tab.call("logIn")
    assert (refused["status"], refused["code"]) == (401, "passkey_refused")
    assert refused["unknown"] is True
    assert tab.identity() is None
    assert authenticator.credentials() == []


def test_a_refused_passkey_of_an_account_is_kept(tab: Tab) -> None:
    authenticator = tab.add_authenticator()
    assert tab.call("register", "My laptop")["value"]
    tab.log_out()

    def change(route: Route) -> None:
        body = json.loads(route.request.post_data or "")
        body["credential"]["response"]["signature"] = "AAAA"
        route.continue_(post_data=json.dumps(body))

    tab.page.route("**/login/passkey", change)
    refused = tab.call("logIn")
    assert (refused["code"], refused.get("unknown")) == ("passkey_refused", None)
    assert len(authenticator.credentials()) == 1


def test_a_page_that_removes_a_passkey_tells_the_authenticator(tab: Tab) -> None:
    authenticator = tab.add_authenticator()
    added = tab.call("register", "My laptop")["value"]["passkey"]
    _, factors = tab.request("GET", "/me/factors")
    [passkey] = factors["passkeys"]
    assert passkey["id"] == added["id"]
    tab.run_snippet("signalUnknownCredential", passkey=passkey)
    assert tab.request("GET", "/me/factors")[1]["passkeys"] == []
    assert authenticator.credentials() == []


def test_synced_and_device_bound_passkeys(tab: Tab) -> None:
    phone = tab.add_authenticator(is_synced=True)
    assert tab.call("register", "Phone")["value"]
    phone.set_present(False)
    key = tab.add_authenticator(transport="usb")
    assert tab.call("register", "Key")["value"]
    _, factors = tab.request("GET", "/me/factors")
    found = {it["name"]: (it["is_synced"], it["backed_up"]) for it in factors["passkeys"]}
    assert found == {"Phone": (True, True), "Key": (False, False)}
    assert (len(phone.credentials()), len(key.credentials())) == (1, 1)
    amr = {}
    for used, other in ((phone, key), (key, phone)):
        used.set_present(True)
        other.set_present(False)
        tab.log_out()
        assert tab.call("logIn")["value"]
        identity = tab.identity()
        assert identity is not None
        amr[used is key] = identity["amr"]
    assert amr == {False: ["pop", "user", "mfa"], True: ["pop", "user", "hwk", "mfa"]}


def test_an_address_is_refused_by_the_service_and_by_the_browser(tab: Tab) -> None:
    tab.add_authenticator()
    assert tab.call("register", "My laptop")["value"]
    tab.log_out()
    options = tab.call("post", "/login/passkey/options")["value"]
    tab.page.goto(f"{tab.at_address()}/unprotected")
    refused = tab.call("logIn")
    assert (refused["status"], refused["code"]) == (403, "passkeys_unavailable")
    assert refused["detail"] == f"Browsers refuse passkeys at an address: open {tab.url}"
    script = """(options) => navigator.credentials
        .get({ publicKey: PublicKeyCredential.parseRequestOptionsFromJSON(options) })
        .then(() => null, (error) => error.name)"""
    assert tab.page.evaluate(script, options) == "SecurityError"
    tab.page.goto(f"{tab.at_address()}/sign-in")
    expect(tab.page.get_by_role("status")).to_contain_text(f"open {tab.url}")
    expect(tab.page.get_by_role("button", name="Sign in with a passkey")).to_be_hidden()


@pytest.mark.parametrize("policy", ["publickey-credentials-get=()", ""])
def test_the_policy_of_a_page(tab: Tab, policy: str) -> None:
    tab.add_authenticator()
    assert tab.call("register", "My laptop")["value"]
    tab.log_out()

    def with_policy(route: Route) -> None:
        answer = fetched(route)
        route.fulfill(response=answer, headers=answer.headers | {"permissions-policy": policy})

    tab.page.route("**/unprotected", with_policy)
    tab.page.reload()
    assert tab.call("logIn").get("error") == ("NotAllowedError" if policy else None)


def embed(tab: Tab, path: str, allow: str) -> Frame:
    """Opens a page of another origin and the same site, with `path` of the application in it."""
    with serving(f'<!doctype html><iframe src="{tab.url}{path}" allow="{allow}"></iframe>') as url:
        tab.page.goto(url)
    element = tab.page.locator("iframe").element_handle()
    assert element is not None
    frame = element.content_frame()
    assert frame is not None
    return frame


def test_a_page_of_another_origin_cannot_use_passkeys(tab: Tab) -> None:
    tab.add_authenticator()
    assert tab.call("register", "My laptop")["value"]
    tab.log_out()
    # The headers of the documented page keep it out of the frame.
    assert embed(tab, "/sign-in", "publickey-credentials-get").url.startswith("chrome-error:")
    # Without them, the browser refuses, unless the other page allows it; then the service does.
    assert embed(tab, "/unprotected", "").evaluate(CALL, ["logIn"])["error"] == "NotAllowedError"
    frame = embed(tab, "/unprotected", "publickey-credentials-get")
    refused = frame.evaluate(CALL, ["logIn"])
    assert (refused["status"], refused["code"]) == (401, "passkey_refused")
    tab.open("/unprotected")
    assert tab.identity() is None
    assert tab.call("logIn")["value"]
    _, events = tab.request("GET", "/me/events")
    [reason] = [it["detail"]["reason"] for it in events["items"] if it["type"] == "passkey_refused"]
    assert reason == "origin"


def test_two_tabs_that_send_one_answer_get_one_session(tab: Tab, context: BrowserContext) -> None:
    tab.add_authenticator()
    assert tab.call("register", "My laptop")["value"]
    tab.log_out()
    tab.open("/unprotected")
    body: list[str] = []

    def keep(route: Route) -> None:
        body.append(route.request.post_data or "")
        route.abort()

    tab.page.route("**/login/passkey", keep)
    assert tab.call("logIn")["error"] == "TypeError"  # the answer was not sent
    tab.page.unroute("**/login/passkey")
    other = Tab(context, tab.url)
    other.open("/unprotected")
    send = """(body) => {
        const headers = { "content-type": "application/json" };
        globalThis.sent = fetch("/login/passkey", { method: "POST", headers, body });
    }"""
    for page in (tab.page, other.page):
        page.evaluate(send, body[0])
    statuses = [page.evaluate("sent.then((it) => it.status)") for page in (tab.page, other.page)]
    assert sorted(statuses) == [200, 401]
    _, sessions = tab.request("GET", "/me/sessions")
    assert len(sessions) == 1


def test_the_first_passkey_ends_other_logins(
    tab: Tab, context: BrowserContext, browser: Browser
) -> None:
    with browser.new_context() as elsewhere:
        other = Tab(elsewhere, tab.url)
        other.email = tab.email
        other.open("/unprotected")
        assert other.log_in_by_password()["value"]
        same = Tab(context, tab.url)
        same.open("/unprotected")
        assert all(each.identity() for each in (tab, same, other))
        before = context.cookies()
        tab.page.bring_to_front()
        tab.add_authenticator()
        assert tab.call("register", "My laptop")["value"]
        assert other.identity() is None
        for each in (tab, same):
            identity = each.identity()
            assert identity is not None
            assert identity["acr"] == "phr"
        # The cookie from before the registration is of no use.
        elsewhere.add_cookies(
            [{"name": it["name"], "value": it["value"], "url": tab.url} for it in before]
        )
        assert other.identity() is None


def test_passkeys_below_a_prefix(browser: Browser, tmp_path: Path) -> None:
    with running(tmp_path, PREFIX) as url, browser.new_context() as context:
        tab = Tab(context, url, PREFIX)
        tab.open("/unprotected")
        tab.register_account()
        tab.add_authenticator()
        assert tab.call("register", "My laptop")["value"]["passkey"]
        tab.log_out()
        tab.open()
        expect(tab.page.get_by_role("status")).to_have_text(f"Signed in as {tab.email}.")
        tab.log_out()
        assert tab.call("logIn")["value"]
        assert tab.identity()


def test_without_the_api_the_password_works(tab: Tab) -> None:
    tab.log_out()
    tab.page.add_init_script("delete globalThis.PublicKeyCredential")
    complaints: list[str] = []
    tab.page.on("pageerror", lambda error: complaints.append(str(error)))
    tab.open()
    tab.page.get_by_label("E-mail").fill(tab.email)
    tab.page.get_by_label("Password").fill(PASSWORD)
    tab.page.get_by_role("button", name="Sign in", exact=True).click()
    expect(tab.page.get_by_role("status")).to_have_text(f"Signed in as {tab.email}.")
    expect(tab.page.get_by_role("button", name="Sign in with a passkey")).to_be_hidden()
    assert tab.call("isAvailable") == {"value": False}
    assert tab.call("autofill") == {"value": None}
    assert complaints == []
