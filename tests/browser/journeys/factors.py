"""Journeys with a second step: authenticator apps, recovery codes, passkeys."""

import time
from pathlib import Path

import pyotp
from playwright.sync_api import expect

from tests.browser.installations import PASSWORD
from tests.browser.journeys.stage import Stage
from tests.browser.passkeys import Authenticator, add_authenticator
from tests.browser.tab import Tab

STEP = 30


def _app(tab: Tab) -> pyotp.TOTP:
    """The authenticator app, with the key that the page shows."""
    return pyotp.TOTP(tab.page.locator(".key").inner_text().replace(" ", ""))


def _confirm(tab: Tab, app: pyotp.TOTP, title: str) -> None:
    """Types a wrong code, then the right one."""
    now = app.now()
    tab.fill(code="000000" if now != "000000" else "111111")
    tab.press("Confirm")
    tab.arrives(title, "That code is not right.")
    expect(tab.page.locator("#code")).to_be_focused()
    tab.fill(code=app.now())
    tab.press("Confirm")


def _keep_codes(tab: Tab) -> list[str]:
    """Downloads the recovery codes, and goes on; returns them."""
    codes = tab.page.locator(".codes").inner_text().split()
    assert len(codes) == 10
    with tab.page.expect_download() as download:
        tab.press("Download")
    assert codes == [
        line for line in Path(download.value.path()).read_text().split() if line in codes
    ]
    tab.press("I kept them")
    return codes


def authenticator_app(stage: Stage) -> None:
    """Set up an app, sign in with it, sign in with a recovery code, and remove the app."""
    tab, address = stage.signed_in(is_confirmed=True)
    tab.press("Security")
    tab.press("Set up")
    tab.arrives("Set up an authenticator app")
    tab.press("Go on")
    expect(tab.page.locator(".qr")).to_be_visible()
    tab.arrives("Set up an authenticator app")
    app = _app(tab)
    _confirm(tab, app, "Set up an authenticator app")
    tab.arrives("Your recovery codes")
    codes = _keep_codes(tab)
    tab.arrives("Security")
    tab.press("Add a passkey")
    tab.arrives("Add a passkey")
    needs_script = "Passkeys need JavaScript and a browser that knows them."
    expect(tab.page.get_by_text(tab.word(needs_script))).to_have_count(int(not stage.look.script))
    expect(tab.page.locator("[data-passkey]")).to_be_visible(visible=stage.look.script)
    other = stage.tab()
    other.sign_in(address)
    other.arrives("Second step")
    # The code of the next step: the last one was used for the setup.
    other.fill(code=app.at(time.time() + STEP))
    other.send("code")
    other.arrives("Profile")
    other.press("Sign out")
    other.arrives("Sign in", "You are signed out.")
    other.fill(email=address, password=PASSWORD)
    other.press("Sign in")
    other.arrives("Second step")
    other.unfold("recovery_code")
    other.check()
    other.fill(recovery_code="not a code")
    other.press("Sign in with a recovery code")
    other.arrives("Second step", "That code is not right.")
    other.fill(recovery_code=codes[0])
    other.press("Sign in with a recovery code")
    other.arrives("Profile")
    other.press("Security")
    other.arrives("Security")
    other.press("New codes")
    other.arrives("New recovery codes")
    other.press("Make new codes")
    other.arrives("Your recovery codes")
    assert not set(_keep_codes(other)) & set(codes)
    other.press("Remove")
    other.arrives("Remove the authenticator app")
    other.press("Remove the app")
    other.arrives("Security", "Your authenticator app is removed.")


def enrolment(stage: Stage) -> None:
    """Where each account must have a second step, a sign-in adds it."""
    address = stage.register("required")
    stage.installation("required").confirm(address)
    tab = stage.tab("required")
    tab.sign_in(address)
    tab.arrives("Add a second step")
    tab.press("Set up an authenticator app")
    expect(tab.page.locator(".qr")).to_be_visible()
    tab.arrives("Set up an authenticator app")
    app = _app(tab)
    _confirm(tab, app, "Set up an authenticator app")
    tab.arrives("Your recovery codes")
    _keep_codes(tab)
    tab.arrives("Profile")
    other = stage.tab("required")
    other.sign_in(address)
    other.arrives("Second step")
    other.fill(code=app.at(time.time() + STEP))
    other.send("code")
    other.arrives("Profile")
    # Behind the page with the form there is no login any longer.
    other.open("/account/sign-out")
    other.control("Sign out").click()
    other.open("/account/sign-in/second")
    other.arrives("Sign in", "The sign-in took too long. Begin again.")


def _signs_in_by_passkey(tab: Tab, authenticator: Authenticator) -> None:
    """Signs out, and in with the button: the autofill that waits ends."""
    authenticator.set_present(False)
    tab.press("Sign out")
    tab.arrives("Sign in")
    tab.page.wait_for_load_state("networkidle")
    authenticator.set_present(True)
    tab.press("Sign in with a passkey")
    tab.arrives("Profile")


def passkey(stage: Stage) -> None:
    """Add a passkey, sign in by it in each way, rename and remove it."""
    tab, address = stage.tab(), stage.register()
    stage.installation("open").confirm(address)
    authenticator = add_authenticator(tab.page)
    tab.sign_in(address)
    tab.arrives("Profile")
    tab.press("Security")
    tab.press("Add a passkey")
    tab.arrives("Add a passkey")
    tab.fill(name="Laptop")
    tab.press("Make a passkey")
    tab.arrives("Your recovery codes")
    assert len(authenticator.credentials()) == 1
    _keep_codes(tab)
    tab.arrives("Security")
    # The same authenticator adds no second one.
    tab.press("Add a passkey")
    tab.fill(name="Again")
    tab.press("Make a passkey")
    tab.told("This device has a passkey of your account already.")
    tab.check()
    # By the password and the passkey.
    authenticator.set_present(False)
    tab.press("Sign out")
    tab.fill(email=address, password=PASSWORD)
    tab.press("Sign in")
    tab.arrives("Second step")
    authenticator.set_present(True)
    tab.press("Use a passkey")
    tab.arrives("Profile")
    # Autofill signs in without a click: the authenticator is touched by itself.
    tab.press("Sign out")
    tab.arrives("Profile")
    _signs_in_by_passkey(tab, authenticator)
    tab.press("Security")
    tab.page.get_by_role("link", name=tab.word("Change %(name)s", name="Laptop")).click()
    tab.arrives("Passkey")
    tab.fill(name="Laptop at home")
    tab.press("Save")
    tab.arrives("Security", "That passkey has its new name.")
    tab.page.get_by_role("link", name=tab.word("Change %(name)s", name="Laptop at home")).click()
    tab.page.locator(".change summary").click()
    tab.check()
    tab.press("Remove the passkey")
    tab.arrives("Security", "That passkey is removed.")
    # The authenticator forgets it, once the service has refused it.
    tab.press("Sign out")
    tab.arrives(
        "Sign in",
        "That passkey was not accepted. Try again, or sign in with your password.",
    )
    deadline = time.monotonic() + 10
    while authenticator.credentials() and time.monotonic() < deadline:
        tab.page.wait_for_timeout(50)
    assert authenticator.credentials() == []


JOURNEYS = (authenticator_app, enrolment, passkey)
NEED_SCRIPT = frozenset({passkey.__name__})
