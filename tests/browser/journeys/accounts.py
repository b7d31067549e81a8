"""Journeys of a person who is signed in: profile, devices, tokens, deletion."""

import json
from pathlib import Path

from playwright.sync_api import expect

from tests.browser.installations import PASSWORD, new_address
from tests.browser.journeys.arrivals import OTHER
from tests.browser.journeys.stage import Stage
from tests.browser.tab import CHROME, Tab

WRONG = "The password is wrong."


def profile(stage: Stage) -> None:
    """Change the name, the language and the password; stay signed in, then sign out."""
    tab, _ = stage.signed_in()
    tab.unfold("name")
    tab.check()
    tab.fill(name="Alice Liddell")
    tab.send("name")
    tab.arrives("Profile", "Your name is saved.")
    expect(tab.page.locator("main")).to_contain_text("Alice Liddell")
    tab.unfold("locale")
    tab.page.locator("#locale").select_option(stage.look.language)
    tab.send("locale")
    tab.arrives("Profile", "Your language is saved.")
    tab.press("Security")
    tab.arrives("Security")
    tab.open("/account/security/password")
    tab.fill(current_password=OTHER, new_password=OTHER)
    tab.press("Change password")
    tab.arrives("Change your password", WRONG)
    tab.fill(current_password=PASSWORD, new_password=OTHER)
    tab.press("Change password")
    tab.arrives("Security", "Your password is changed.")
    tab.press("Activity")
    tab.arrives("Activity")
    tab.open("/account/sign-out")
    tab.arrives("Sign out")
    tab.press("Stay signed in")
    tab.arrives("Profile")
    tab.press("Sign out")
    tab.arrives("Sign in", "You are signed out.")
    tab.open("/account/data")
    tab.arrives("Sign in")


def change_of_address(stage: Stage) -> None:
    """Change the address, confirm it in another browser, and take it back by the old mailbox."""
    tab, old = stage.signed_in(is_confirmed=True)
    new = new_address()
    tab.unfold("email")
    tab.fill(email=new)
    tab.send("email")
    tab.arrives(
        "Profile",
        "We sent an e-mail to the new address. Nothing changes until you open its link.",
    )
    link = stage.installation("open").link("confirm", new)
    tab.press("Profile")
    tab.shows("Waits for its link")
    tab.check()
    other = stage.tab()
    other.open(link)
    other.arrives("Confirm your e-mail address")
    other.fill(password=PASSWORD)
    other.press("Confirm")
    other.arrives("Done", "Your e-mail address is confirmed.")
    tab.open("/account")
    tab.arrives("Profile")
    expect(tab.page.locator("main")).to_contain_text(new)
    other.open(stage.installation("open").link("undo", old))
    other.arrives("Recover your account")
    other.fill(email=new)
    other.press("Recover account")
    other.arrives(
        "Recover your account",
        "The e-mail was not sent to this address. Nothing was changed. Check the address and try "
        "again.",
    )
    other.fill(email=old)
    other.press("Recover account")
    other.arrives("Look into your mailbox")
    # The browser that was signed in is out, and its password stopped working.
    tab.press("Security")
    tab.arrives("Sign in")
    tab.sign_in(old)
    tab.arrives("Sign in", "E-mail address or password is not right.")
    other.open(stage.installation("open").link("reset", old))
    other.fill(new_password=OTHER)
    other.press("Save password")
    other.arrives("Sign in")
    tab.sign_in(old, OTHER)
    tab.arrives("Profile")
    expect(tab.page.locator("main")).to_contain_text(old)


def two_browsers(stage: Stage) -> None:
    """End the sign-in of another browser: it is out at its next click. Then end all others."""
    tab, address = stage.signed_in()
    other = stage.tab(user_agent=CHROME)
    other.sign_in(address)
    other.arrives("Profile")
    tab.press("Devices")
    tab.arrives("Devices")
    devices = tab.page.locator(".devices > li")
    expect(devices).to_have_count(2)
    expect(devices.first.locator(".badge")).to_have_text(tab.word("This device"))
    expect(devices.last).to_contain_text("127.0.0.1")
    tab.page.locator(".devices summary").last.click()
    tab.check()
    devices.last.locator("form button").click()
    if stage.look.script:
        dialog = tab.page.get_by_role("dialog")
        tab.check()
        dialog.get_by_role("button", name=tab.word("Sign out"), exact=True).click()
    tab.arrives("Devices", "That device is signed out.")
    other.press("Activity")
    other.arrives("Sign in")
    other.fill(email=address, password=PASSWORD)
    other.press("Sign in")
    other.arrives("Activity")
    tab.press("Devices")
    tab.page.locator(".change summary").click()
    tab.check()
    tab.page.locator(".change button").click()
    tab.arrives("Devices")
    told = tab.look.plural("%(num)s other device is signed out.", 1)
    expect(tab.page.locator(".banner")).to_have_text(told)
    expect(devices).to_have_count(1)
    expect(tab.page.locator(".change")).to_have_count(0)
    other.press("Profile")
    other.arrives("Sign in")


def _make_token(tab: Tab, name: str) -> str:
    """Fills the form of a new token and sends it; returns the token."""
    tab.fill(name=name)
    tab.page.get_by_label("reports:read").check()
    tab.send("name")
    tab.arrives(name, "Copy it now. It is shown this once.")
    return tab.page.locator("#token").input_value()


def access_token(stage: Stage) -> None:
    """Make a token, use it as a program does, and end it: the program gets 401."""
    tab, _ = stage.signed_in()
    installation = stage.installation("open")
    tab.press("Tokens")
    tab.arrives("Tokens")
    tab.press("New token")
    tab.arrives("New token")
    token = _make_token(tab, "deploy")
    assert installation.status(token) == 200
    copy = tab.page.get_by_role("button", name=tab.word("Copy"), exact=True)
    expect(copy).to_have_count(int(stage.look.script))
    if stage.look.script:
        tab.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        copy.click()
        expect(tab.page.get_by_role("button", name=tab.word("Copied"))).to_be_visible()
        assert tab.page.evaluate("navigator.clipboard.readText()") == token
        tab.page.locator("#token").focus()
        assert tab.page.evaluate("getSelection().toString()") == token
    tab.page.reload()  # sends the form again
    tab.arrives(
        "Tokens",
        "That token was made already. If you did not copy it, end it and make another.",
    )
    end = tab.page.get_by_role("button", name=tab.word("End %(name)s", name="deploy"))
    end.click()
    if stage.look.script:
        dialog = tab.page.get_by_role("dialog")
        tab.check()
        dialog.get_by_role("button", name=tab.word("Keep it")).click()
        expect(end).to_be_focused()
        assert installation.status(token) == 200
        end.click()
        dialog.get_by_role("button", name=tab.word("End"), exact=True).click()
    tab.arrives("Tokens", "That token has ended.")
    assert installation.status(token) == 401
    tab.press("Activity")
    tab.arrives("Activity")
    tab.press("Changes")
    tab.arrives("Activity")
    expect(tab.page.locator(".events li").first).to_contain_text(tab.word("Access token ended"))
    if stage.look.script:  # the list of pages scrolls to this one
        current = tab.page.locator(".rail [aria-current]")
        expect(current).to_be_in_viewport(ratio=1)


def old_login(stage: Stage) -> None:
    """A login that is too old: the same form asks for the password, and loses nothing."""
    tab, _ = stage.signed_in("confirm", is_confirmed=True)
    tab.open("/account/tokens/new")
    while not tab.page.locator("#password").count():  # the login is not too old yet
        tab.page.wait_for_timeout(200)
        tab.page.reload()
    tab.fill(name="nightly", password=OTHER)
    tab.page.locator("#expires-30").check()
    tab.page.get_by_label("reports:write").check()
    tab.send("name")
    tab.arrives("New token", WRONG)
    expect(tab.page.locator("#name")).to_have_value("nightly")
    expect(tab.page.locator("#expires-30")).to_be_checked()
    expect(tab.page.get_by_label("reports:write")).to_be_checked()
    tab.fill(password=PASSWORD)
    assert stage.installation("confirm").status(_make_token(tab, "nightly")) == 200


def deletion(stage: Stage) -> None:
    """Download everything, and delete the account: the address and the password are asked for."""
    tab, address = stage.signed_in("confirm", is_confirmed=True)
    tab.press("Your data")
    tab.arrives("Your data")
    with tab.page.expect_download() as download:
        tab.press("Download everything")
    assert json.loads(Path(download.value.path()).read_bytes())["account"]["email"] == address
    tab.press("Delete account…")
    tab.arrives("Delete account")
    tab.fill(email="another@example.com", password=PASSWORD)
    tab.press("Delete my account")
    tab.arrives("Delete account", "That is not the address of your account.")
    tab.fill(email=address, password=OTHER)
    tab.press("Delete my account")
    tab.arrives("Delete account", WRONG)
    tab.fill(email=address, password=PASSWORD)
    tab.press("Delete my account")
    tab.arrives("Sign in", "Your account is deleted.")
    tab.fill(email=address, password=PASSWORD)
    tab.press("Sign in")
    tab.arrives("Sign in", "E-mail address or password is not right.")


JOURNEYS = (*(profile, change_of_address, two_browsers, access_token, old_login, deletion),)
