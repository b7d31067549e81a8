"""Journeys of an administrator through the console, and what it is for other people."""

import json
from pathlib import Path

from playwright.sync_api import expect

from tests.browser.installations import ADMINISTRATOR, PASSWORD, new_address
from tests.browser.journeys.arrivals import OTHER
from tests.browser.journeys.stage import Stage
from tests.browser.tab import Tab
from tests.servers.webhooks import SECRET

_PLACES = ("People", "Events", "Mail", "Webhooks", "Keys", "Status")


def _console(stage: Stage) -> Tab:
    """Signs in as the administrator, and opens the console."""
    tab = stage.tab("console")
    tab.sign_in(ADMINISTRATOR)
    tab.arrives("Profile")
    tab.press("Console")
    tab.arrives("People")
    return tab


def _find(tab: Tab, address: str) -> None:
    """Opens the page of an account by a search."""
    tab.press("People")
    tab.arrives("People")
    tab.fill(email=address)
    tab.press("Search")
    expect(tab.page.locator("tbody tr")).to_have_count(1)
    tab.check()
    tab.page.get_by_role("link", name=address, exact=True).click()
    expect(tab.page.locator("h1")).to_have_text(address)
    tab.check()


def _sure(tab: Tab, sentence: str) -> None:
    """Presses a button that the script asks about."""
    tab.press(sentence)
    if tab.look.script:
        dialog = tab.page.get_by_role("dialog")
        tab.check()
        dialog.get_by_role("button", name=tab.word(sentence), exact=True).click()


def administrator(stage: Stage) -> None:
    """Invite a person, who accepts by mail; give them a role; deactivate them: they are out."""
    tab, address, installation = _console(stage), new_address(), stage.installation("console")
    tab.press("Invite")
    tab.arrives("Invite people")
    tab.fill(emails=f"{address}\nalice")
    tab.send("emails")
    tab.arrives("Invitations")
    tab.shows("Not invited")
    expect(tab.page.locator("tbody tr")).to_have_count(2)
    person = stage.tab("console")
    link = installation.link("invitation", address)
    person.open(link.replace("lang=en", f"lang={stage.look.language}"))
    person.arrives("Accept your invitation")
    person.fill(password=OTHER)
    person.press("Accept")
    person.is_at("/account/sign-in")
    person.sign_in(address, OTHER)
    person.arrives("Profile")
    _find(tab, address)
    tab.page.locator("#role-reader").check()
    tab.send("name")
    tab.told("The account is saved.")
    expect(tab.page.locator("#role-reader")).to_be_checked()
    tab.check()
    person.press("Profile")
    person.shows("reader")
    _sure(tab, "Deactivate")
    tab.told("The account is deactivated. All its sign-ins and access tokens ended.")
    tab.check()
    person.press("Devices")
    person.arrives("Sign in")
    person.sign_in(address, OTHER)
    person.arrives("Sign in", "E-mail address or password is not right.")
    tab.press("Activate")
    tab.told("The account is activated.")
    expect(tab.page.locator(".events li").first).to_contain_text(
        tab.word("Account activated again")
    )


def own_account(stage: Stage) -> None:
    """The account of the administrator: the name can be changed, and nothing else."""
    tab = _console(stage)
    _find(tab, ADMINISTRATOR)
    tab.shows("Ask another administrator to change your own account.")
    expect(tab.page.locator("#superuser")).to_have_count(0)
    tab.fill(name="Root")
    tab.send("name")
    tab.told("The account is saved.")
    expect(tab.page.locator("#name")).to_have_value("Root")


def search(stage: Stage) -> None:
    """Search, filter and turn the pages of accounts and of events; save events as a file."""
    installation = stage.installation("console")
    for _ in range(21):
        installation.register(stage.look.language)
    tab = _console(stage)
    expect(tab.page.locator("tbody tr")).to_have_count(20)
    tab.press("Next")
    tab.arrives("People")
    tab.press("First page")
    tab.arrives("People")
    tab.page.locator("#superuser").select_option("true")
    tab.press("Search")
    expect(tab.page.locator("tbody")).to_contain_text(ADMINISTRATOR)
    tab.fill(email="no-such-person")
    tab.press("Search")
    tab.shows("No account matches.")
    tab.check()
    tab.press("Clear filters")
    expect(tab.page.locator("tbody tr")).to_have_count(20)
    tab.press("Events")
    tab.arrives("Events")
    tab.page.locator("#type").select_option("login")
    tab.press("Search")
    sentence = tab.word("Signed in to the account")
    expect(tab.page.locator("tbody tr").first).to_contain_text(sentence)
    tab.check()
    with tab.page.expect_download() as download:
        tab.page.get_by_role("link", name="JSON Lines").click()
    lines = Path(download.value.path()).read_text(encoding="utf-8").splitlines()
    assert {json.loads(line)["type"] for line in lines} == {"login"}
    with tab.page.expect_download() as download:
        tab.page.get_by_role("link", name="CSV").click()
    assert "login" in Path(download.value.path()).read_text(encoding="utf-8")
    tab.press("By day")
    expect(tab.page.locator("tbody tr").first).to_be_visible()
    tab.check()


def queues(stage: Stage) -> None:
    """Send a test mail, test a webhook, try again what was given up, and retire a key."""
    tab = _console(stage)
    tab.press("Mail")
    tab.arrives("Mail")
    tab.press("Send a test mail to me")
    tab.arrives("Mail", "A test e-mail to you is on its way. If it does not arrive, look here why.")
    tab.press("Webhooks")
    tab.arrives("Webhooks")
    expect(tab.page.locator("tbody tr").first).to_contain_text("http://127.0.0.1:9")
    expect(tab.page.locator("main")).not_to_contain_text("path-with-a-secret")
    tab.page.locator("button[name=test]").first.click()
    tab.arrives("Webhooks", "The receiver did not answer.")
    tab.page.locator("button[name=retry]").first.click()
    tab.arrives("Webhooks")
    expect(tab.page.locator(".banner")).to_be_visible()
    tab.page.locator("#show").select_option("given-up")
    tab.press("Search")
    tab.arrives("Webhooks")
    tab.press("Keys")
    tab.arrives("Keys")
    rows = tab.page.locator("tbody tr")
    expect(rows).to_have_count(2)
    tab.press("Rotate now")
    tab.arrives(
        "Keys",
        "Verifiers may not have read the next key yet. Nothing was changed. Try again in ten "
        "minutes.",
    )
    tab.fill(kid="another key")
    tab.send("kid")
    tab.arrives("Keys", "Type the key as the table shows it.")
    kid = rows.first.locator("code").inner_text()
    tab.fill(kid=kid)
    tab.send("kid")
    tab.arrives("Keys", "That key is retired. Tokens that it signed are refused.")
    expect(tab.page.locator("tbody")).not_to_contain_text(kid)


def status(stage: Stage) -> None:
    """Read what the checks found, the numbers and the settings, whose secrets are hidden."""
    tab = _console(stage)
    tab.press("Status")
    tab.arrives("Status")
    main = tab.page.locator("main")
    expect(main.locator("li", has_text="reachable, schema at")).to_be_hidden()
    main.locator("summary").click()
    passed = main.locator("li", has_text="reachable, schema at")
    expect(passed).to_contain_text(tab.word("Passed"))
    expect(passed).to_be_visible()
    tab.check()
    assert _number(tab, "Accounts") >= 1
    assert _number(tab, "Superusers") == 1
    expect(tab.page.get_by_role("img")).to_be_visible()
    settings = main.locator("pre")
    expect(settings).to_contain_text("AUTHAPI_WEBHOOK_SECRET=(hidden)")
    expect(settings).not_to_contain_text("AUTHAPI_HOST=")
    expect(main).not_to_contain_text(SECRET)
    expect(main).not_to_contain_text("path-with-a-secret")
    tab.press("All settings")
    tab.arrives("Settings")
    expect(settings).to_contain_text("AUTHAPI_HOST=127.0.0.1")
    expect(settings).to_contain_text("AUTHAPI_WEBHOOK_SECRET=(hidden)")
    expect(main).not_to_contain_text(SECRET)
    expect(main).not_to_contain_text("path-with-a-secret")
    tab.press("Status")
    tab.arrives("Status")


def _number(tab: Tab, sentence: str) -> int:
    """A number of the page of the status."""
    label = tab.page.locator("dt").get_by_text(tab.word(sentence), exact=True)
    row = tab.page.locator(".row").filter(has=label)
    return int(row.locator("dd").inner_text().replace(",", ""))


def stranger(stage: Stage) -> None:
    """For other people, signed in or not, there is no console."""
    address = stage.installation("console").register(stage.look.language)
    tab, signed_in = stage.tab("console"), stage.tab("console")
    signed_in.sign_in(address)
    signed_in.arrives("Profile")
    expect(signed_in.control("Console")).to_have_count(0)
    for it in (tab, signed_in):
        for path in ("/console", *(f"/console/{place.lower()}" for place in _PLACES)):
            answer = it.page.goto(stage.installation("console").url + path)
            assert answer is not None
            assert answer.status == 404, path
            it.check()


def keyboard(stage: Stage) -> None:
    """A person is deactivated and a test mail is sent without a mouse."""
    installation = stage.installation("console")
    address = installation.register(stage.look.language)
    tab = stage.tab("console")
    tab.open("/account/sign-in?next=/console/people")
    _type_into(tab, "#email", ADMINISTRATOR)
    _type_into(tab, "#password", PASSWORD)
    tab.page.keyboard.press("Enter")
    tab.arrives("People")
    _type_into(tab, "#email", address)
    tab.page.keyboard.press("Enter")
    expect(tab.page.locator("tbody tr")).to_have_count(1)
    _reach(tab, "tbody a")
    tab.page.keyboard.press("Enter")
    expect(tab.page.locator("h1")).to_have_text(address)
    _reach(tab, "form:has([value=deactivate]) button")
    tab.page.keyboard.press("Enter")
    if stage.look.script:
        dialog = tab.page.get_by_role("dialog")
        confirm = dialog.get_by_role("button", name=tab.word("Deactivate"), exact=True)
        confirm.focus()
        tab.page.keyboard.press("Enter")
    tab.told("The account is deactivated. All its sign-ins and access tokens ended.")
    _reach(tab, ".rail a[href$=mail]")
    tab.page.keyboard.press("Enter")
    tab.arrives("Mail")
    _reach(tab, "button[value=test]")
    tab.page.keyboard.press("Space")
    tab.arrives("Mail")
    expect(tab.page.locator(".banner")).to_be_visible()


def _reach(tab: Tab, selector: str) -> None:
    """Moves the focus to an element, forwards, as a person without a mouse does."""
    found = tab.page.locator(selector).first
    for _ in range(80):
        if found.evaluate("it => it === document.activeElement"):
            return
        tab.page.keyboard.press("Tab")
    raise AssertionError(f"{selector} is not reached by the keyboard")


def _type_into(tab: Tab, selector: str, text: str) -> None:
    _reach(tab, selector)
    tab.page.keyboard.press("ControlOrMeta+A")
    tab.page.keyboard.type(text)


JOURNEYS = (administrator, own_account, search, queues, status, stranger, keyboard)
