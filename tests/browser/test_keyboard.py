"""A person without a mouse: Tab, Shift+Tab, Enter, Space and arrows do everything."""

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Locator, expect

from tests.browser.installations import PASSWORD, Installation, installed
from tests.browser.looks import Look
from tests.browser.tab import CHROME, Browsers, Tab, browsers

pytestmark = pytest.mark.browser

LOOKS = (Look(script=True, width=1280), Look(script=False, width=390, scheme="dark"))
MAX_STOPS = 60

# What the person does not see of the element with the focus: its ring, or a part of it.
UNSEEN = """() => {
    const it = document.activeElement;
    const style = getComputedStyle(it);
    const found = [];
    if (style.outlineStyle === 'none' || parseFloat(style.outlineWidth) < 2) found.push('no ring');
    const box = it.getBoundingClientRect();
    if (box.top < 0 || box.left < 0 || box.right > innerWidth + 1) found.push('outside');
    if (box.height < innerHeight && box.bottom > innerHeight + 1) found.push('below');
    const [x, y] = [box.left + box.width / 2, box.top + Math.min(box.height / 2, innerHeight / 2)];
    const top = document.elementFromPoint(x, y);
    if (!top || !(it.contains(top) || top.contains(it))) found.push('obscured');
    return found.length ? [found, it.outerHTML] : null;
}"""


class Keyboard:
    """The keyboard of a person, who sees where they are at each stop."""

    def __init__(self, tab: Tab) -> None:
        self.tab, self.page = tab, tab.page

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def type(self, text: str) -> None:
        self.page.keyboard.type(text)

    def go(self, target: Locator, key: str = "Tab") -> None:
        """Moves the focus to the element. Each stop on the way is seen."""
        for _ in range(MAX_STOPS):
            if self.is_at(target):
                return
            self.press(key)
            assert self.page.evaluate(UNSEEN) is None
        pytest.fail(f"the keyboard does not reach {target}")

    def is_at(self, target: Locator) -> bool:
        """Whether the element has the focus."""
        expect(target).to_be_visible()
        found: bool = target.evaluate("it => it === document.activeElement")
        return found

    def use(self, sentence: str, key: str = "Enter") -> None:
        """Goes to the button or link with this text, and presses it."""
        self.go(self.tab.control(sentence))
        self.press(key)

    def arrives(self, title: str) -> None:
        """The person arrives at a page with this title."""
        expect(self.page.locator("h1")).to_have_text(title)
        self.page.wait_for_load_state("load")


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with installed(tmp_path_factory.mktemp("keyboard")) as it:
        yield it


@pytest.fixture(params=LOOKS, ids=str)
def opened(browser: Browser, axe: str, request: pytest.FixtureRequest) -> Iterator[Browsers]:
    with browsers(browser, request.param, axe) as it:
        yield it


@pytest.fixture
def keys(opened: Browsers, installation: Installation) -> Callable[[str], Keyboard]:
    """Signs in with the keyboard."""

    def sign_in(address: str) -> Keyboard:
        keys = Keyboard(opened.open(installation))
        keys.tab.open("/account/sign-in")
        keys.arrives("Sign in")
        keys.go(keys.page.locator("#email"))
        keys.type(address)
        keys.go(keys.page.locator("#password"))
        keys.type(PASSWORD)
        keys.go(keys.page.locator("#remember"))
        keys.press("Space")
        expect(keys.page.locator("#remember")).to_be_checked()
        keys.use("Sign in", "Space")
        keys.arrives("Profile")
        return keys

    return sign_in


def test_the_first_stop_skips_to_the_content(
    keys: Callable[[str], Keyboard], installation: Installation
) -> None:
    it = keys(installation.register("en"))
    it.press("Tab")
    assert it.is_at(it.page.locator(".skip"))
    assert it.page.evaluate(UNSEEN) is None
    it.press("Enter", "Tab")
    # Behind the brand and the button to sign out.
    assert it.is_at(it.page.locator(".rail a").first)
    it.press("Shift+Tab")
    it.press("Shift+Tab")
    assert not it.is_at(it.page.locator(".rail a").first)


def test_a_token_is_made_and_ended(
    keys: Callable[[str], Keyboard], installation: Installation
) -> None:
    it = keys(installation.register("en"))
    it.use("Tokens")
    it.arrives("Tokens")
    it.use("New token")
    it.arrives("New token")
    # The field has the focus already. Without a name, the browser keeps the form.
    expect(it.page.locator("#name")).to_be_focused()
    it.press("Enter")
    expect(it.page.locator("#name")).to_be_focused()
    it.type("deploy")
    it.go(it.page.locator("#expires-90"))
    it.press("ArrowLeft")
    expect(it.page.locator("#expires-30")).to_be_checked()
    it.go(it.page.locator(r"#may-reports\:read"))
    it.press("Space")
    it.use("Make token", "Enter")
    it.arrives("deploy")
    token = it.page.locator("#token").input_value()
    assert installation.status(token) == 200
    it.go(it.page.locator("#token"))
    it.use("Done")
    it.arrives("Tokens")
    end = it.page.get_by_role("button", name="End deploy")
    it.go(end)
    it.press("Enter")
    if it.tab.look.script:
        dialog = it.page.get_by_role("dialog")
        assert it.is_at(dialog.get_by_role("button", name="Keep it"))
        it.press("Escape")
        expect(dialog).to_have_count(0)
        assert it.is_at(end)  # the focus returns
        it.press("Space")
        it.go(dialog.get_by_role("button", name="End", exact=True), "Shift+Tab")
        it.press("Enter")
    it.tab.told("That token has ended.")
    assert installation.status(token) == 401


def test_a_device_is_ended(
    keys: Callable[[str], Keyboard], installation: Installation, opened: Browsers
) -> None:
    address = installation.register("en")
    other = opened.open(installation, user_agent=CHROME)
    other.sign_in(address)
    other.arrives("Profile")
    it = keys(address)
    it.use("Devices")
    it.arrives("Devices")
    it.go(it.page.locator(".devices summary").last)
    it.press("Space")
    expect(it.page.locator(".devices details").last).to_have_attribute("open", "")
    it.go(it.page.locator(".devices form button").last)
    it.press("Enter")
    if it.tab.look.script:
        dialog = it.page.get_by_role("dialog")
        assert it.is_at(dialog.get_by_role("button", name="Keep it"))
        it.go(dialog.get_by_role("button", name="Sign out", exact=True), "Shift+Tab")
        it.press("Enter")
    it.tab.told("That device is signed out.")
    other.press("Security")
    other.arrives("Sign in")


def test_the_focus_goes_to_what_is_wrong(
    keys: Callable[[str], Keyboard], installation: Installation
) -> None:
    address = installation.register("en")
    it = keys(address)
    it.tab.open("/account/security/password")
    # One field is wrong: it has the focus, and says why.
    expect(it.page.locator("#current_password")).to_be_focused()
    it.type("wrong")
    it.go(it.page.locator("#new_password"))
    it.type("short")
    it.press("Enter")
    expect(it.page.locator(".error")).to_have_count(1)
    expect(it.page.locator("[aria-invalid]")).to_be_focused()
    assert it.page.evaluate(UNSEEN) is None
    # The form as a whole is refused: the summary has the focus, and Tab goes on from there.
    it.tab.open("/account")
    it.go(it.page.locator("summary").first)
    it.press("Space")
    it.go(it.page.locator("#name"))
    it.type("Alice Liddell")  # Tab has selected the old name
    installation.rename(address, "Alice Pleasance")  # meanwhile, in another window
    it.press("Enter")
    it.tab.told("This was changed meanwhile, perhaps in another window. Look again.")
    expect(it.page.locator("#problem")).to_be_focused()
    assert it.page.evaluate(UNSEEN) is None
    it.go(it.page.locator("#name"))
    expect(it.page.locator("#name")).to_have_value("Alice Liddell")


def test_the_account_is_deleted(
    keys: Callable[[str], Keyboard], installation: Installation
) -> None:
    address = installation.register("en")
    it = keys(address)
    it.use("Your data")
    it.arrives("Your data")
    it.use("Delete account…")
    it.arrives("Delete account")
    expect(it.page.locator("#email")).to_be_focused()
    it.type(address)
    it.go(it.page.locator("#password"))
    it.type("wrong")
    it.press("Enter")
    expect(it.page.locator(".error")).to_be_visible()
    expect(it.page.locator("#password")).to_be_focused()
    it.type(PASSWORD)
    it.use("Delete my account", "Space")
    it.arrives("Sign in")
    it.tab.told("Your account is deleted.")
