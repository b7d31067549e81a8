"""Every page, for a person who is signed out, signed in, or signed in by too little."""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote, urljoin, urlsplit

import httpx
import pytest

from authapi import create_app
from authapi.clock import now
from authapi.domain.user import User
from tests.clocks import travel_to
from tests.conftest import SettingsFactory
from tests.second_factors import add_second_factors
from tests.web.logins import sign_in
from tests.web.pages.anatomy import page_of, title_of
from tests.web.pages.browser import Browser
from tests.web.pages.page_routes import ID, page_paths
from tests.web.pages.scenes import SCOPES, create_person, furnish, open_browser
from tests.web.routes.pages.people import STALE

STATES = ("signed out", "signed in", "stale", "superuser", "without factor", "one factor")
"""The last two are logins by a password only, at a service that requires a second factor: of an
account that must add one, and of one that must prove it."""
KOREAN_TITLES = {"/account": "프로필", "/account/devices": "기기", "/account/sign-in": "로그인"}


@dataclass(frozen=True)
class Expected:
    """What a page answers, by state: a status, or the page it leads to. `next` is added there."""

    title: str
    signed_out: int | str = 200
    signed_in: int | str = 200
    without_factor: int | str = 200
    one_factor: int | str = 200
    stale: int | str | None = None

    def of(self, state: str) -> int | str:
        if state == "stale":
            return self.signed_in if self.stale is None else self.stale
        found: int | str = getattr(self, state.replace(" ", "_").replace("superuser", "signed_in"))
        return found


def of_account(title: str) -> Expected:
    """A page that is shown to a complete login only."""
    return Expected(title, "sign-in", 200, "security", "prove")


def of_factors(title: str) -> Expected:
    """A page on which a login adds or proves what it lacks."""
    return Expected(title, "sign-in")


def of_link(title: str) -> Expected:
    """A page of a link in a mail, without the token of one."""
    return Expected(title, 400, 400, 400, 400)


def of_waiting_login() -> Expected:
    """A page of a login that waits for its second step, without one."""
    to = "sign-in?done=expired"
    return Expected("", to, to, to, to)


PAGES: Mapping[str, Expected] = {
    "/account": of_account("Profile"),
    "/account/activity": of_account("Activity"),
    "/account/check-mail": Expected("Look into your mailbox"),
    "/account/confirm": of_link("Confirm your e-mail address"),
    "/account/data": of_account("Your data"),
    "/account/data/delete": of_account("Delete account"),
    "/account/data/export": of_account(""),
    "/account/devices": of_account("Devices"),
    "/account/disown": of_link("End a login that was not yours"),
    "/account/forgot": Expected("Forgot your password?"),
    "/account/invitation": of_link("Accept your invitation"),
    "/account/prove": Expected("Prove that it is you", "sign-in", "", "", 200, stale=200),
    "/account/reset": of_link("Choose a new password"),
    "/account/security": of_factors("Security"),
    "/account/security/app": of_factors("Set up an authenticator app"),
    "/account/security/app/remove": Expected(
        "Remove the authenticator app", "sign-in", "security", "security"
    ),
    "/account/security/codes": Expected("", "sign-in", "security", "security", "prove"),
    "/account/security/passkeys": of_factors("Add a passkey"),
    f"/account/security/passkeys/{ID}": Expected("", "sign-in", "security", "security", "prove"),
    "/account/security/password": of_account("Change your password"),
    "/account/sign-in": Expected("You are signed in"),
    "/account/sign-in/enrol": of_waiting_login(),
    "/account/sign-in/second": of_waiting_login(),
    "/account/sign-out": Expected("Sign out", "sign-in"),
    "/account/sign-up": Expected("Create an account"),
    "/account/tokens": of_account("Tokens"),
    "/account/tokens/new": of_account("New token"),
    "/account/undo": of_link("Recover your account"),
}


def test_every_page_is_listed(make_settings: SettingsFactory) -> None:
    assert page_paths(create_app(make_settings())) == sorted(PAGES)


@pytest.mark.parametrize("state", STATES)
async def test_every_page_is_shown_or_leads_on(make_settings: SettingsFactory, state: str) -> None:
    requires = state in {"without factor", "one factor"}
    changes = {"mfa": "required"} if requires else {}
    async with open_browser(make_settings(scopes=SCOPES, **changes)) as browser:
        user = await create_person(browser.client, is_superuser=state == "superuser")
        await furnish(browser.client, user, rows=2)
        if state != "signed out":
            browser.client.headers.update(await sign_in(browser.client.services, user))
        if state == "one factor":
            await add_second_factors(browser.client.services, user)
        with travel_to(now() + (STALE if state == "stale" else STALE * 0)):
            for path, expected in PAGES.items():
                answer = await browser.request("GET", path)
                _check(answer, path, expected.of(state))
                if answer.status_code in {200, 400} and "export" not in path:
                    title = "Sign in" if _asks_to_sign_in(path, state) else expected.title
                    assert title_of(page_of(answer)) == title, path


def _asks_to_sign_in(path: str, state: str) -> bool:
    return path == "/account/sign-in" and state == "signed out"


def _check(answer: httpx.Response, path: str, expected: int | str) -> None:
    if isinstance(expected, int):
        assert answer.status_code == expected, path
        return
    assert answer.status_code == 303, path
    assert answer.headers.get_list("cache-control") == ["no-store"]
    assert answer.headers.get_list("referrer-policy") == ["strict-origin"]
    location = answer.headers["location"]
    assert not urlsplit(location).netloc
    target = urlsplit(urljoin(path, location))
    name, _, query = expected.partition("?")
    assert target.path == (f"/account/{name}" if name else "/account"), path
    if name in {"sign-in", "prove"} and not query and path not in _WITHOUT_NEXT:
        query = f"next={quote(path, safe='')}"
    assert target.query == query, path


_WITHOUT_NEXT = {"/account/prove", "/account/sign-out"}
"""Pages that are no place to come back to."""


async def test_a_deactivated_or_deleted_person_is_signed_out(
    make_settings: SettingsFactory,
) -> None:
    async with open_browser(make_settings()) as browser:
        api = browser.client
        root = await create_person(api, "root@example.com", is_superuser=True)
        for end in ("deactivate", "delete"):
            user = await create_person(api, f"{end}@example.com")
            cookie = await sign_in(api.services, user)
            await _end(browser, root, user, end)
            for path, expected in PAGES.items():
                answer = await browser.request("GET", path, headers=cookie)
                _check(answer, path, expected.signed_out)


async def _end(browser: Browser, root: User, user: User, how: str) -> None:
    headers = await sign_in(browser.client.services, root)
    method, path = {
        "deactivate": ("PATCH", f"/admin/users/{user.id}"),
        "delete": ("DELETE", f"/admin/users/{user.id}"),
    }[how]
    body = {"json": {"is_active": False}} if method == "PATCH" else {}
    answer = await browser.client.request(method, path, headers=headers, **body)  # type: ignore[arg-type]  # the body is one
    assert answer.is_success, answer.text


async def test_pages_are_in_the_language_of_the_reader(make_settings: SettingsFactory) -> None:
    async with open_browser(make_settings(), language="ko") as browser:
        user = await create_person(browser.client)
        shown = await browser.open("/account/sign-in")
        assert title_of(shown.root) == KOREAN_TITLES["/account/sign-in"]
        browser.client.headers.update(await sign_in(browser.client.services, user))
        for path, title in KOREAN_TITLES.items():
            if path != "/account/sign-in":
                shown = await browser.open(path)
                assert title_of(shown.root) == title
                assert shown.root["lang"] == "ko"


@pytest.mark.parametrize("registration", ["open", "confirm", "invite", "closed"])
async def test_signing_up_is_shown_if_it_is_open(
    make_settings: SettingsFactory, registration: str
) -> None:
    async with open_browser(make_settings(registration=registration)) as browser:
        is_open = registration in {"open", "confirm"}
        shown = await browser.open("/account/sign-up")
        assert shown.status == (200 if is_open else 403)
        sign_in_page = await browser.open("/account/sign-in")
        assert ("Create an account" in sign_in_page.text) is is_open


async def test_pages_that_are_left_out_are_not_found(make_settings: SettingsFactory) -> None:
    async with open_browser(make_settings(pages="none")) as browser:
        for path in PAGES:
            answer = await browser.request("GET", path)
            assert answer.status_code == 404, path
            assert answer.headers["content-type"] == "application/problem+json"
