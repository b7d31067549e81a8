"""Every page at four widths and zoomed, with long texts, in forced colours, and on paper."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import pyotp
import pytest
from playwright.sync_api import Browser, expect

from tests.browser.installations import ADMINISTRATOR, PASSWORD, Installation, installed
from tests.browser.looks import Look
from tests.browser.passkeys import add_authenticator
from tests.browser.tab import SMALL_TARGETS, Tab
from tests.servers.webhooks import SECRET

pytestmark = pytest.mark.browser

WIDTHS = (320, 390, 768, 1280)
NAME = "Wolfeschlegelsteinhausenbergerdorff" * 5
LONG_AGENT = f"{'Mozilla/5.0(' * 20}{'x' * 200}"
SCOPE = f"reports:{'x' * 40}"
ROLE = "r" * 40
LOOKS = (Look(scheme="light", language="en"), Look(scheme="dark", language="ko"))

SIGNED_OUT = (
    *("sign-in", "sign-in?done=no-cookie", "sign-up", "check-mail", "forgot", "forgot?done=sent"),
    *(f"{name}?token=x" for name in ("confirm", "reset", "undo", "disown", "invitation")),
    *("nowhere", "confirm?done=confirmed"),
)
SIGNED_IN = (
    *("", "security", "security/password", "security/app", "security/app/remove"),
    *("security/codes", "security/passkeys", "devices", "tokens", "tokens/new", "activity"),
    *("activity?show=refused", "data", "data/delete", "sign-out", "sign-in", "prove"),
)
CONSOLE = (
    *("people", "people?email=nothing", "people/new", "events", "events?type=refused"),
    *("events/days", "mail", "mail?show=given-up", "webhooks", "keys"),
    *("status", "status?show=settings"),
)
BORDERED = "main :is(button.primary, button.plain, button.danger, .button, input, select, .panel)"

# A page without borders, or whose current choice looks like the others, is unreadable.
FORCED = f"""() => {{
    const seen = (it) => it.checkVisibility() && !it.closest('.secret')
        && !['checkbox', 'radio'].includes(it.type);
    const bare = [...document.querySelectorAll('{BORDERED}')].filter(seen)
        .filter((it) => getComputedStyle(it).borderTopWidth === '0px');
    const alike = [...document.querySelectorAll('[aria-current]')].filter((it) => {{
        const other = it.closest('nav').querySelector('a:not([aria-current])');
        const [one, two] = [getComputedStyle(it), getComputedStyle(other)];
        return one.backgroundColor === two.backgroundColor
            && one.borderTopWidth === two.borderTopWidth;
    }});
    return [...bare, ...alike].map((it) => it.outerHTML);
}}"""


@dataclass(frozen=True)
class Long:
    """Accounts with long texts: `plain` has no second step, `full` has all that there are."""

    plain: str
    full: str
    codes: list[str]
    """The recovery codes of `full`."""


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    settings = {
        "AUTHAPI_SCOPES": f"{SCOPE}={'long' * 20}; reports:read=Read reports",
        "AUTHAPI_TERMS_URL": "https://example.com/terms",
        "AUTHAPI_PRIVACY_URL": "https://example.com/privacy",
        "AUTHAPI_ROLES": f"{ROLE}={SCOPE} reports:read; reader=reports:read",
        "AUTHAPI_DEFAULT_ROLES": ROLE,
        # No process listens at that port.
        "AUTHAPI_WEBHOOK_URLS": "http://127.0.0.1:9/",
        "AUTHAPI_WEBHOOK_SECRET": SECRET,
    }
    with installed(tmp_path_factory.mktemp("layout"), **settings) as it:
        yield it


@pytest.fixture(scope="module")
def people(installation: Installation) -> Long:
    long_address = f"{'l' * 58}%s@{'d' * 60}.{'e' * 60}.{'f' * 40}.example.com"
    plain, full = (
        installation.register("en", name=NAME, email=long_address % number) for number in (1, 2)
    )
    for address in (plain, full):
        installation.confirm(address)
    token = installation.log_in(full)
    secret = installation.post("/me/factors/totp", {}, token=token).json()["secret"]
    code = pyotp.TOTP(secret).now()
    confirmed = installation.post("/me/factors/totp/confirm", {"code": code}, token=token)
    return Long(plain, full, confirmed.json()["recovery_codes"])


def arrive(browser: Browser, installation: Installation, look: Look, axe: str) -> Tab:
    """Opens a browser with a long user agent."""
    context = browser.new_context(
        color_scheme=look.scheme,
        locale=look.language,
        reduced_motion="reduce",
        user_agent=LONG_AGENT,
    )
    return Tab(context.new_page(), look, installation, axe)


def fits(tab: Tab, where: str) -> None:
    """Checks the page that is shown, opened completely: at each width, and by axe."""
    page = tab.page
    page.evaluate("for (const it of document.querySelectorAll('main details')) it.open = true")
    for width in WIDTHS:
        # 320 and 256 pixels are 1280 and 1024 at 400 % (WCAG 2.2, section 1.4.10).
        page.set_viewport_size({"width": width, "height": 256 if width == 320 else 800})
        overflow = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert overflow <= 0, (where, width, overflow)
        assert page.evaluate(SMALL_TARGETS) == [], (where, width)
    tab.check()


@pytest.mark.parametrize("look", LOOKS, ids=str)
def test_signed_out_pages_fit(
    browser: Browser, installation: Installation, axe: str, look: Look
) -> None:
    tab = arrive(browser, installation, look, axe)
    for path in SIGNED_OUT:
        tab.open(f"/account/{path}")
        fits(tab, path)
    address = installation.register(look.language, name=NAME)
    tab.open(installation.link("confirm", address))
    fits(tab, "confirm")
    installation.post("/password/forgot", {"email": address})
    tab.open(installation.link("reset", address))
    fits(tab, "reset")
    tab.fill(new_password="short")
    tab.send("new_password")
    expect(tab.page.get_by_role("alert")).to_be_visible()
    fits(tab, "reset, refused")
    link = installation.link("invitation", installation.invite())
    tab.open(link.replace("lang=en", f"lang={look.language}"))
    fits(tab, "invitation")
    tab.page.context.close()


@pytest.mark.parametrize("look", LOOKS, ids=str)
def test_pages_of_an_account_fit(
    browser: Browser, installation: Installation, people: Long, axe: str, look: Look
) -> None:
    tab = arrive(browser, installation, look, axe)
    tab.sign_in(people.plain)
    choose_language(tab)
    # At first, the account has no token.
    for path in SIGNED_IN:
        tab.open(f"/account/{path}")
        fits(tab, path)
    tab.open("/account/security/app")
    tab.page.locator("main form button").click()
    expect(tab.page.locator(".qr")).to_be_visible()
    fits(tab, "security/app, with its key")
    tab.open("/account/tokens/new")
    tab.fill(name="t" * 100)
    tab.page.get_by_label(re.compile(SCOPE)).check()
    tab.send("name")
    expect(tab.page.locator("#token")).to_be_visible()
    fits(tab, "a new token")
    tab.open("/account/tokens")
    fits(tab, "tokens, with one")
    tab.open("/account/data/delete")
    tab.fill(email="another@example.com", password="wrong")
    tab.send("password")
    expect(tab.page.get_by_role("alert")).to_be_visible()
    fits(tab, "data/delete, refused")
    tab.page.context.close()


@pytest.mark.parametrize("look", LOOKS, ids=str)
def test_pages_of_second_steps_fit(
    browser: Browser, installation: Installation, people: Long, axe: str, look: Look
) -> None:
    tab = arrive(browser, installation, look, axe)
    add_authenticator(tab.page)
    tab.sign_in(people.full)
    tab.is_at("/sign-in/second")
    tab.open(f"/account/sign-in/second?lang={look.language}")
    fits(tab, "second step")
    tab.fill(recovery_code="wrong")
    tab.send("recovery_code")
    expect(tab.page.get_by_role("alert")).to_be_visible()
    fits(tab, "second step, refused")
    tab.fill(recovery_code=people.codes[0])
    tab.send("recovery_code")
    choose_language(tab)
    tab.open("/account/security/codes")
    tab.page.locator("main form button").click()
    expect(tab.page.locator(".codes")).to_be_visible()
    people.codes[:] = tab.page.locator(".codes").inner_text().split()
    fits(tab, "recovery codes")
    tab.open("/account/security/passkeys")
    tab.fill(name="p" * 100)
    tab.page.locator("[data-passkey]").click()
    expect(tab.page.locator(".badge.good")).to_be_visible()
    tab.open("/account/security")
    fits(tab, "security, with all second steps")
    tab.page.locator("main a[href*='security/passkeys/']").first.click()
    fits(tab, "passkey")
    tab.open("/account/security/app/remove")
    fits(tab, "security/app/remove")
    tab.page.context.close()


@pytest.mark.parametrize("look", LOOKS, ids=str)
def test_pages_of_the_console_fit(
    browser: Browser, installation: Installation, people: Long, axe: str, look: Look
) -> None:
    tab = arrive(browser, installation, look, axe)
    tab.sign_in(ADMINISTRATOR)
    choose_language(tab)
    for path in CONSOLE:
        tab.open(f"/console/{path}")
        expect(tab.page.locator(".console h1")).to_be_visible()
        fits(tab, path)
    tab.open(f"/console/people?email={people.full[:20]}")
    for number in range(2):
        tab.page.locator("tbody a").nth(number).click()
        expect(tab.page.locator("#account-id")).to_be_visible()
        fits(tab, "a person")
        tab.page.go_back()
    tab.open("/console/keys")
    tab.fill(kid="k" * 100)
    tab.send("kid")
    expect(tab.page.get_by_role("alert")).to_be_visible()
    fits(tab, "keys, refused")
    tab.page.context.close()


def test_the_console_is_readable_in_forced_colours(
    browser: Browser, installation: Installation, people: Long
) -> None:
    context = browser.new_context(forced_colors="active", reduced_motion="reduce")
    page = context.new_page()
    page.goto(f"{installation.url}/account/sign-in?next=/console/people")
    page.fill("#email", ADMINISTRATOR)
    page.fill("#password", PASSWORD)
    page.press("#password", "Enter")
    expect(page.locator("tbody")).to_be_visible()
    for path in CONSOLE:
        page.goto(f"{installation.url}/console/{path}")
        assert page.evaluate(FORCED) == [], path
    context.close()


def test_pages_are_readable_in_forced_colours(
    browser: Browser, installation: Installation, people: Long
) -> None:
    context = browser.new_context(forced_colors="active", reduced_motion="reduce")
    page = context.new_page()
    page.goto(f"{installation.url}/account/sign-in")
    assert page.evaluate(FORCED) == []
    page.fill("#email", people.plain)
    page.fill("#password", PASSWORD)
    page.press("#password", "Enter")
    expect(page.locator(".rail")).to_be_visible()
    for path in SIGNED_IN:
        page.goto(f"{installation.url}/account/{path}")
        assert page.evaluate(FORCED) == [], path
    context.close()


def test_recovery_codes_are_printed_alone_on_one_page(
    browser: Browser, installation: Installation, people: Long
) -> None:
    context = browser.new_context(color_scheme="dark", reduced_motion="reduce")
    page = context.new_page()
    page.goto(f"{installation.url}/account/sign-in")
    page.fill("#email", people.full)
    page.fill("#password", PASSWORD)
    page.press("#password", "Enter")
    page.locator("summary").click()
    page.fill("#recovery_code", people.codes[0])
    page.press("#recovery_code", "Enter")
    expect(page.locator(".rail")).to_be_visible()
    page.goto(f"{installation.url}/account/security/codes")
    page.locator("main form button").click()
    expect(page.locator(".codes")).to_be_visible()
    people.codes[:] = page.locator(".codes").inner_text().split()
    page.emulate_media(media="print", color_scheme="light")  # paper is light
    expect(page.locator(".codes")).to_be_visible()
    expect(page.locator("h1")).to_be_visible()
    for selector in (".rail", ".up", ".who", "footer", ".skip", "main .button"):
        for element in page.locator(selector).all():
            expect(element).to_be_hidden()
    assert len(re.findall(rb"/Type\s*/Page\b", page.pdf())) == 1
    context.close()


def choose_language(tab: Tab) -> None:
    """Chooses the language of the look for the account that is signed in."""
    expect(tab.page.locator(".rail")).to_be_visible()
    tab.open("/account")
    tab.unfold("locale")
    tab.page.locator("#locale").select_option(tab.look.language)
    tab.send("locale")
    tab.told("Your language is saved.")
