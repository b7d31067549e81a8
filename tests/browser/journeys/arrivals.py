"""Journeys before a sign-in: new accounts, forgotten passwords, refusals, invitations."""

from playwright.sync_api import expect

from tests.browser.installations import PASSWORD, new_address
from tests.browser.journeys.stage import Stage

OTHER = "another horse, another battery"


def sign_up_open(stage: Stage) -> None:
    """Sign up, confirm the address by the mail, and see the profile."""
    tab, address = stage.tab(), new_address()
    tab.open("/")
    tab.arrives("Sign in")
    tab.press("Create an account")
    tab.arrives("Create an account")
    tab.fill(name="Alice", email=address, password="short")
    tab.press("Create account")
    tab.arrives(
        "Create an account",
        "The password is too short. It must have at least %(min_length)s characters.",
        min_length=15,
    )
    expect(tab.page.locator("#email")).to_have_value(address)
    expect(tab.page.locator("#password")).to_be_focused()
    tab.fill(password=PASSWORD)
    tab.press("Create account")
    tab.arrives("Profile", "Your account is ready. We sent an e-mail to confirm the address.")
    tab.shows("Not confirmed")
    tab.open(stage.installation("open").link("confirm", address))
    tab.arrives("Confirm your e-mail address")
    tab.press("Confirm")
    tab.arrives("Done", "Your e-mail address is confirmed.")
    tab.press("Continue")
    tab.arrives("Profile")
    expect(tab.page.locator(".badge.good")).to_have_text(tab.word("Confirmed"))


def sign_up_confirm(stage: Stage) -> None:
    """Sign up where the mailbox decides: the answer is the same, the link needs the password."""
    tab, address = stage.tab("confirm"), new_address()
    if stage.look.script:
        tab.page.clock.install()
    tab.open("/account/sign-up")
    tab.fill(email=address, password=PASSWORD)
    tab.press("Create account")
    tab.arrives("Look into your mailbox")
    first = stage.installation("confirm").link("confirm", address)
    if stage.look.script:
        expect(tab.control("Send it again")).to_be_disabled()
        tab.page.clock.fast_forward("01:00")
    tab.press("Send it again")
    tab.arrives(
        "Look into your mailbox",
        "If the address can have an account, another e-mail is on its way.",
    )
    tab.open(stage.installation("confirm").link("confirm", address, after=first))
    tab.arrives("Confirm your e-mail address")
    tab.fill(password=OTHER)
    tab.press("Confirm")
    tab.arrives("Confirm your e-mail address", "The password is wrong.")
    tab.fill(password=PASSWORD)
    tab.press("Confirm")
    tab.arrives("Done", "Your e-mail address is confirmed.")
    tab.press("Sign in")
    tab.arrives("Sign in")
    tab.fill(email=address, password=PASSWORD)
    tab.press("Sign in")
    tab.arrives("Profile")


def forgotten_password(stage: Stage) -> None:
    """Ask for a mail, choose a new password, and sign in with it."""
    tab, address = stage.tab(), stage.register()
    tab.open("/account/sign-in")
    tab.press("Forgot your password?")
    tab.arrives("Forgot your password?")
    tab.fill(email=address)
    tab.press("Send e-mail")
    told = "If there is an account with this address, an e-mail is on its way."
    tab.arrives("Look into your mailbox", told)
    link = stage.installation("open").link("reset", address)
    tab.open(link)
    tab.arrives("Choose a new password")
    tab.fill(new_password="short")
    tab.press("Save password")
    tab.arrives(
        "Choose a new password",
        "The password is too short. It must have at least %(min_length)s characters.",
        min_length=15,
    )
    tab.fill(new_password=OTHER)
    tab.press("Save password")
    tab.arrives("Sign in", "Your password is changed. Sign in with the new one.")
    expect(tab.page.locator("#email")).to_have_value(address)
    tab.fill(password=PASSWORD)
    tab.press("Sign in")
    tab.arrives("Sign in", "E-mail address or password is not right.")
    tab.fill(password=OTHER)
    tab.press("Sign in")
    tab.arrives("Profile")
    tab.open(link)
    tab.arrives(
        "Choose a new password",
        "This link is no longer valid: it was already used, has expired, or was replaced by a "
        "newer one.",
    )


def wrong_three_times(stage: Stage) -> None:
    """After some wrong passwords the way to a new one stands beside the field."""
    tab, address = stage.tab(), stage.register()
    tab.sign_in(address, OTHER)
    for _ in range(2):
        tab.arrives("Sign in", "E-mail address or password is not right.")
        expect(tab.page.locator("#email")).to_have_value(address)
        expect(tab.page.locator("#password")).to_be_focused()
        tab.fill(password=OTHER)
        tab.press("Sign in")
    tab.arrives("Sign in", "E-mail address or password is not right.")
    beside = tab.page.locator("form .beside a")
    expect(beside).to_have_text(tab.word("Forgot your password?"))
    beside.click()
    tab.arrives("Forgot your password?")


def throttled(stage: Stage) -> None:
    """Too many wrong passwords: the page says when to try again, and the form stays."""
    tab, address = stage.tab(), stage.register()
    tab.sign_in(address, OTHER)
    for _ in range(5):
        tab.told("E-mail address or password is not right.")
        tab.fill(password=OTHER)
        tab.press("Sign in")
        tab.page.wait_for_load_state()
    expect(tab.page.get_by_role("alert")).to_have_text(
        tab.look.plural("Too many attempts. Try again in %(num)s minute.", 1)
    )
    tab.check()
    expect(tab.page.locator("#email")).to_have_value(address)
    expect(tab.control("Sign in")).to_be_enabled()


def invited(stage: Stage) -> None:
    """Accept an invitation of an administrator, and sign in."""
    tab, installation = stage.tab(), stage.installation("open")
    address = installation.invite()
    # The mail is in the language of the service, which does not know that of the person.
    link = installation.link("invitation", address)
    link = link.replace("lang=en", f"lang={stage.look.language}")
    tab.open(link)
    tab.arrives("Accept your invitation")
    expect(tab.page.locator("#username")).to_have_value(address)
    expect(tab.page.locator("#name")).to_have_value("Alice")
    tab.fill(name="Alice Liddell", password=PASSWORD)
    tab.press("Accept")
    tab.arrives("Sign in", "Welcome. Sign in with the password that you have chosen.")
    expect(tab.page.locator("#email")).to_have_value(address)
    tab.fill(password=PASSWORD)
    tab.press("Sign in")
    tab.arrives("Profile")
    expect(tab.page.locator("main")).to_contain_text("Alice Liddell")
    tab.open(link)
    tab.arrives("Accept your invitation")
    tab.press("Get a link to choose a password")
    tab.arrives("Forgot your password?")


def dead_ends(stage: Stage) -> None:
    """Each page that refuses has a way on: links that do not work, unknown pages, other origins."""
    tab = stage.tab()
    for name, title in (
        ("confirm", "Confirm your e-mail address"),
        ("undo", "Recover your account"),
        ("disown", "End a login that was not yours"),
    ):
        tab.open(f"/account/{name}?token={'x' * 43}")
        tab.arrives(title)
        expect(tab.page.get_by_role("alert")).to_be_visible()
        expect(tab.page.locator("main .button, main form button").first).to_be_visible()
    for path in ("nowhere", "forgot/deeper/x"):
        tab.open(f"/account/{path}")
        tab.arrives("Page not found")
    foreign = "http://elsewhere.lan/"
    url = f"{stage.installation('open').url}/account/forgot"
    form = f'<form method="post" action="{url}"><button>Send</button></form>'
    tab.page.route(foreign, lambda it: it.fulfill(body=form, content_type="text/html"))
    tab.open(foreign)
    tab.page.locator("button").click()
    tab.arrives("That did not work")
    tab.press("Open the form again")
    tab.arrives("Forgot your password?")
    # What needs a login leads to it, and back.
    tab.open("/account/devices")
    tab.arrives("Sign in")
    tab.fill(email=stage.register(), password=PASSWORD)
    tab.press("Sign in")
    tab.arrives("Devices")
    tab.open("/account/sign-in?next=/account/sign-out")
    tab.arrives("You are signed in")
    tab.press("Continue")
    tab.arrives("Sign out")


JOURNEYS = (
    *(sign_up_open, sign_up_confirm, forgotten_password, wrong_three_times, throttled),
    *(invited, dead_ends),
)
