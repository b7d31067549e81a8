"""The database is away when a form arrives: nothing that was typed is lost, passwords excepted."""

from collections.abc import Mapping
from itertools import count
from typing import Any

import pyotp
import pytest

from authapi.clock import now
from authapi.errors import StorageUnavailable
from authapi.services.sessions.service import Sessions
from authapi.testing import PASSWORD
from authapi.web.routes.pages.mail import PAGES
from tests.conftest import SettingsFactory
from tests.web.logins import sign_in
from tests.web.pages.anatomy import alerts_of
from tests.web.pages.browser import Browser, Form, Page
from tests.web.pages.outages import database_away
from tests.web.pages.scenes import SCOPES, create_person, mailed, open_browser
from tests.web.pages.texts import ENGLISH, KOREAN
from tests.web.pages.walk import Person, Walk
from tests.web.routes.pages.people import ALICE

NEW = "another horse another battery"
FORMS: Mapping[tuple[str, str], Mapping[str, str]] = {
    ("/account", "name"): {"name": "Typed"},
    ("/account", "email"): {"email": "typed@example.com"},
    ("/account", "language"): {"locale": "ko"},
    ("/account/devices", "others"): {},
    ("/account/security/password", ""): {"current_password": PASSWORD, "new_password": NEW},
    ("/account/tokens/new", ""): {"name": "Typed", "scope reports:read": "yes"},
    ("/account/data/delete", ""): {"email": ALICE, "password": PASSWORD},
}
SECRETS = {PASSWORD, NEW}
LINKS: Mapping[str, Mapping[str, str]] = {
    "confirm": {"password": PASSWORD},
    "reset": {"new_password": NEW},
    "undo": {"email": ALICE},
    "disown": {},
    "invitation": {"name": "Typed", "password": NEW},
}
SIGNED_OUT: Mapping[str, Mapping[str, str]] = {
    "/account/sign-in": {"email": ALICE, "password": PASSWORD},
    "/account/sign-up": {"name": "Typed", "email": "typed@example.com", "password": NEW},
    "/account/forgot": {"email": ALICE},
    "/account/check-mail": {"email": ALICE},
}


def form_of(page: Page, action: str = "") -> Form:
    forms = [form for form in page.forms() if form.method == "post" and "sign-out" not in form.url]
    if action:
        forms = [form for form in forms if form.values.get("action") == action]
    return forms[0]


async def send_twice(browser: Browser, form: Form, typed: Mapping[str, str]) -> Page:
    """Send a form while the database is away, then what the answer offers; return the page."""
    with database_away():
        refused = await browser.send(form, **typed)
    texts = KOREAN if browser.language == "ko" else ENGLISH
    assert refused.status == 503
    assert alerts_of(refused.root) == [texts["database_unavailable"]]
    assert refused.answer.headers["retry-after"] == "1"
    again = form_of(refused, form.values.get("action", ""))
    assert again.url == form.url
    kept = {name: text for name, text in typed.items() if text not in SECRETS}
    sent = {name: text for name, text in (form.values | kept).items() if text}
    sent.pop("form", None)  # the id of a form that was not used may be another one
    assert again.values.items() >= sent.items()
    assert not SECRETS & set(again.values.values())
    asked = {item["name"] for item in again.typed}
    secrets = {name: text for name, text in typed.items() if text in SECRETS}
    assert asked >= secrets.keys()
    done = await browser.send(again, **secrets)
    assert (done.status, alerts_of(done.root)) == (200, [])
    return done


@pytest.mark.parametrize("is_known", [True, False], ids=["known", "unknown"])
@pytest.mark.parametrize("page", FORMS, ids=" ".join)
async def test_forms_of_an_account(
    make_settings: SettingsFactory, page: tuple[str, str], is_known: bool
) -> None:
    """The caller is in memory, or must be looked up."""
    async with open_browser(make_settings(scopes=SCOPES)) as browser:
        api, (path, action) = browser.client, page
        user = await create_person(api)
        await sign_in(api.services, user)
        api.cookies.set("authapi", (await sign_in(api.services, user))["cookie"].split("=")[1])
        form = form_of(await browser.open(path), action)
        if not is_known:
            api.services.identity_cache.clear()
        await send_twice(browser, form, FORMS[page])


@pytest.mark.parametrize("name", LINKS)
async def test_forms_behind_links(make_settings: SettingsFactory, name: str) -> None:
    async with open_browser(make_settings(), language="ko") as browser:
        user = await create_person(browser.client)
        token = await mailed(browser.client, user, PAGES[name].purposes[0])
        form = form_of(await browser.open(f"/account/{name}?token={token}"))
        await send_twice(browser, form, LINKS[name])


@pytest.mark.parametrize("path", SIGNED_OUT)
async def test_forms_of_people_who_are_signed_out(
    make_settings: SettingsFactory, path: str
) -> None:
    async with open_browser(make_settings()) as browser:
        await create_person(browser.client)
        form = form_of(await browser.open(path))
        await send_twice(browser, form, SIGNED_OUT[path])


async def test_a_page_says_when_to_try_again(make_settings: SettingsFactory) -> None:
    async with open_browser(make_settings()) as browser:
        user = await create_person(browser.client)
        cookie = await sign_in(browser.client.services, user)
        with database_away():
            answer = await browser.request("GET", "/account/devices", headers=cookie)
        page = browser.show(answer)
        assert page.status == 503
        assert alerts_of(page.root) == [ENGLISH["database_unavailable"]]
        assert "devices" in [link["href"] for link in page.main.all("a")]


@pytest.mark.parametrize("name", ["reset", "invitation"])
async def test_a_link_that_was_used_although_the_answer_was_lost(
    make_settings: SettingsFactory, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page does not say that the link does not work: the password may be the new one."""
    async with open_browser(make_settings()) as browser:
        accounts = browser.client.services.accounts
        owner, method = {
            "reset": (accounts.passwords, "reset"),
            "invitation": (accounts.invitations, "accept"),
        }[name]
        act = getattr(owner, method)

        async def lose_answer(*arguments: Any, **options: Any) -> None:
            await act(*arguments, **options)
            raise StorageUnavailable

        user = await create_person(browser.client)
        token = await mailed(browser.client, user, PAGES[name].purposes[0])
        form = form_of(await browser.open(f"/account/{name}?token={token}"))
        monkeypatch.setattr(type(owner), method, lambda _, *a, **o: lose_answer(*a, **o))
        page = await browser.send(form, **LINKS[name])
        assert page.status == 503
        assert alerts_of(page.root) == [ENGLISH["database_unavailable"]]
        assert page.answer.headers["retry-after"] == "1"


async def test_recovery_codes_are_shown_although_the_caller_is_not_found_again(
    make_settings: SettingsFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are shown once. The session has its new cookie."""
    async with open_browser(make_settings()) as browser:
        api = browser.client
        await create_person(api)
        walk = Walk(browser, Person(), None)  # type: ignore[arg-type]  # no time passes
        await walk.sign_in()
        begun = await browser.send(form_of(await browser.open("/account/security/app")))
        [key] = [item.text for item in begun.main if item["class"] == "key"]
        form = next(form for form in begun.forms() if form.values.get("action") == "confirm")
        find, calls = Sessions.identify_by_secret, count(1)

        async def find_once(*arguments: Any, **options: Any) -> Any:
            if next(calls) > 1:
                raise StorageUnavailable
            return await find(*arguments, **options)

        monkeypatch.setattr(Sessions, "identify_by_secret", find_once)
        page = await browser.send(form, code=pyotp.TOTP(key.replace(" ", "")).at(now()))
        assert page.status == 200
        [codes] = [item.text.split() for item in page.main if item["class"] == "codes"]
        assert len(codes) == 10
        monkeypatch.undo()
        assert (await browser.open("/account/security")).path == "/account/security"
