"""A walk over all links and forms: no dead end, no missing page, no JSON, no server error."""

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
import time_machine

from authapi import Settings, create_app
from authapi.clock import now
from authapi.web.routes.pages.mail import PAGES
from tests.clocks import travel_to
from tests.conftest import SettingsFactory
from tests.second_factors import add_second_factors, insert_passkey
from tests.web.mailbox import sent_mail
from tests.web.pages.anatomy import alerts_of
from tests.web.pages.page_routes import ID, page_paths
from tests.web.pages.scenes import (
    SCOPES,
    create_person,
    furnish,
    mailed,
    open_browser,
    without_password,
)
from tests.web.pages.walk import OTHER, Person, Walk
from tests.web.routes.pages.people import ALICE, STALE

BRAND: Mapping[str, Any] = {
    "scopes": SCOPES,
    "terms_url": "https://acme.example/terms",
    "privacy_url": "https://acme.example/privacy",
    "support_url": "mailto:help@acme.example",
}
PASSWORD = "sign-in  email password"
CODE = "sign-in/second  code"
SIGN_UP = "sign-up  email name password"
NEW_PASSWORD = "security/password  current_password new_password"
OUT = {"forgot ", "forgot  email", "sign-out ", "sign-out yes", PASSWORD, SIGN_UP}
ACCOUNT = {
    *("profile name name", "profile language", "profile email email", "profile cancel"),
    *("profile confirm", "devices ", "devices others", "tokens ", "tokens/new  date name"),
    *("data/delete  email password", NEW_PASSWORD),
}
"""`profile confirm` is for the new account, whose address is not confirmed."""
APP = {"security/app ", "security/app confirm code", "security/app/remove ", "security/codes "}
ONE_PASSKEY = {"security/passkeys/{id}  name", "security/passkeys/{id} remove"}


@pytest.fixture
def clock() -> Iterator[time_machine.Traveller]:
    with travel_to(now()) as found:
        yield found


@asynccontextmanager
async def everything(
    settings: Settings, clock: time_machine.Traveller, language: str = "en", prefix: str = ""
) -> AsyncIterator[Walk]:
    """A person with devices, tokens, events, an app, recovery codes and a passkey."""
    async with open_browser(settings, language=language, prefix=prefix) as browser:
        api = browser.client
        user = await create_person(api)
        await furnish(api, user, rows=12)
        factors = await add_second_factors(api.services, user)
        person = Person(app=factors.app, recovery_codes=factors.codes)
        await insert_passkey(api.services, factors.user, person.passkey)
        walk = Walk(browser, person, clock, prefix)
        await walk.sign_in()
        yield walk


@pytest.mark.parametrize(("language", "prefix"), [("en", ""), ("ko", "/api/v1/auth")])
async def test_a_person_with_everything(
    make_settings: SettingsFactory, clock: time_machine.Traveller, language: str, prefix: str
) -> None:
    async with everything(make_settings(**BRAND), clock, language, prefix) as walk:
        await walk.run(f"{prefix}/account", f"{prefix}/account/sign-in")
        assert walk.sent == OUT | ACCOUNT | APP | ONE_PASSKEY | {CODE}


async def test_a_person_who_signed_in_some_time_ago(
    make_settings: SettingsFactory, clock: time_machine.Traveller
) -> None:
    async with everything(make_settings(**BRAND), clock) as walk:
        clock.shift(STALE)
        await walk.run("/account")
        assert walk.sent == {
            *(OUT - {"sign-out yes"}) | {CODE, "prove  password"},
            *ACCOUNT - {"tokens/new  date name"} | {"tokens/new  date name password"},
            *("profile email email password", "security/app/remove  password"),
            *("security/codes  password", "security/passkeys/{id}  name"),
            "security/passkeys/{id} remove password",
        }


async def test_a_superuser_without_factors(
    make_settings: SettingsFactory, clock: time_machine.Traveller
) -> None:
    async with open_browser(make_settings(**BRAND)) as browser:
        await furnish(
            browser.client, await create_person(browser.client, is_superuser=True), rows=1
        )
        await create_person(browser.client, "root@example.com", is_superuser=True)
        walk = Walk(browser, Person(), clock)
        await walk.sign_in()
        await walk.run("/account", "/account/sign-in")
        assert walk.sent == OUT | ACCOUNT | APP


async def test_a_person_without_a_password(
    make_settings: SettingsFactory, clock: time_machine.Traveller
) -> None:
    async with open_browser(make_settings(**BRAND)) as browser:
        user = await create_person(browser.client)
        await furnish(browser.client, user, rows=1)
        await Walk(browser, Person(), clock).sign_in()
        await without_password(browser.client, user)
        # Without a password, there is no way back.
        skips = frozenset({"sign-out ", "sign-out yes", SIGN_UP, PASSWORD})
        walk = Walk(browser, Person(), clock, skips=skips)
        await walk.run("/account", "/account/sign-in")
        assert walk.sent == {
            *OUT - skips | APP | {"security/password mail", "data/delete  email"},
            *ACCOUNT - {"profile confirm", "data/delete  email password", NEW_PASSWORD},
        }


async def test_a_person_whose_address_is_not_confirmed(
    make_settings: SettingsFactory, clock: time_machine.Traveller
) -> None:
    async with open_browser(make_settings(**BRAND, login_identifier="both")) as browser:
        await furnish(browser.client, await browser.client.create_user(ALICE), rows=1)
        walk = Walk(browser, Person(), clock)
        await walk.sign_in()
        await walk.run("/account", "/account/sign-in")
        assert walk.sent == {
            *OUT - {SIGN_UP} | ACCOUNT | {f"{SIGN_UP} username", "profile username username"}
        }


@pytest.mark.parametrize("language", ["en", "ko"])
async def test_a_person_who_must_add_a_second_step(
    make_settings: SettingsFactory, clock: time_machine.Traveller, language: str
) -> None:
    settings = make_settings(**BRAND, mfa="required")
    async with open_browser(settings, language=language) as browser:
        await furnish(browser.client, await create_person(browser.client), rows=1)
        # The address of a new account must be confirmed before it adds a second step.
        walk = Walk(browser, Person(), clock, skips=frozenset({SIGN_UP}))
        await walk.run("/account/sign-in", "/account")
        assert walk.sent == {
            *("sign-in/enrol ", "sign-in/enrol confirm code", "security/codes "),
            *OUT - {SIGN_UP, "sign-out yes"},
            # Adding the second step has signed out the other devices.
            *ACCOUNT - {"profile confirm", "devices others"},
        }


MAILED = {
    "confirm": {"confirm go password", "confirm without_password email"},
    "reset": {"reset  new_password"},
    "undo": {"undo  email"},
    "disown": {"disown "},
    "invitation": {"invitation  name password"},
}
"""The forms of the pages behind links."""


@pytest.mark.parametrize("prefix", ["", "/auth"])
@pytest.mark.parametrize("name", PAGES)
async def test_each_form_behind_a_link_of_a_mail(
    make_settings: SettingsFactory, clock: time_machine.Traveller, name: str, prefix: str
) -> None:
    async with open_browser(make_settings(**BRAND), prefix=prefix) as browser:
        api, sent = browser.client, set[str]()
        for number in range(len(MAILED[name])):
            user = await create_person(api, f"alice{number}@example.com")
            token = await mailed(api, user, PAGES[name].purposes[0], email=user.email)
            walk = Walk(browser, Person(user.email), clock, prefix)
            address = f"{prefix}/account/{name}?token={token}&lang=ko"
            shown = await browser.open(address)
            form = [form for form in shown.forms() if form.method == "post"][number]
            sent.add(walk.name_of(form))
            done = await browser.send(form, **walk.typed(form))
            assert (done.status, alerts_of(done.root), done.root["lang"]) == (200, [], "ko")
            dead = await browser.open(address)
            assert dead.status == 400
            for again in dead.forms():
                if again.method == "post":
                    assert (await browser.send(again, email=user.email)).status == 200
        assert sent == MAILED[name]


async def test_a_person_who_is_signed_out(
    make_settings: SettingsFactory, clock: time_machine.Traveller
) -> None:
    """With `confirm`, creating an account leads to the mailbox."""
    settings = make_settings(**BRAND, registration="confirm")
    async with open_browser(settings, prefix="/auth") as browser:
        walk = Walk(browser, Person(), clock, "/auth", skips=frozenset({PASSWORD}))
        await walk.run("/auth/account/activity")
        assert walk.sent == {"forgot  email", "forgot ", SIGN_UP, "check-mail "}
        # Mails of one instant have any order, and a new link replaces the one before.
        links = [
            f"/auth/account/confirm?token={mail.secret}"
            for mail in await sent_mail(browser.client.services, OTHER)
            if mail.kind == "confirm"
        ]
        assert sorted({(await browser.open(link)).status for link in links}) in ([200], [200, 400])


@pytest.mark.parametrize("registration", ["invite", "closed"])
async def test_accounts_by_invitation(
    make_settings: SettingsFactory, clock: time_machine.Traveller, registration: str
) -> None:
    async with open_browser(make_settings(**BRAND, registration=registration)) as browser:
        walk = Walk(browser, Person(), clock, skips=frozenset({PASSWORD}))
        await walk.run("/account")
        assert walk.sent == {"forgot  email", "forgot "}
        closed = await browser.open("/account/sign-up")
        assert closed.status == 403
        assert "sign-in" in [link["href"] for link in closed.main.all("a")]


@pytest.mark.parametrize("prefix", ["", "/auth"])
async def test_passkeys_where_there_is_a_script(
    make_settings: SettingsFactory, clock: time_machine.Traveller, prefix: str
) -> None:
    """The addresses that the script asks for options are those of the API."""
    async with open_browser(make_settings(**BRAND), prefix=prefix) as browser:
        await create_person(browser.client)
        browser.client.base_url = "http://localhost:8000"
        person, base = Person(), f"{prefix}/account"
        walk = Walk(browser, person, clock, prefix)
        await walk.sign_in()
        codes = await walk.press(f"{base}/security/passkeys")
        assert len(person.recovery_codes) == 10
        assert codes.path == f"{base}/security/passkeys"
        clock.shift(STALE)
        assert (await walk.press(f"{base}/prove?next={base}/tokens")).path == f"{base}/tokens"
        browser.client.cookies.clear()
        assert (await walk.press(f"{base}/sign-in")).path == base
        browser.client.cookies.clear()
        [form, *_] = [it for it in (await browser.open(f"{base}/sign-in")).forms() if it.typed]
        second = await browser.send(form, **walk.typed(form))
        assert second.path == f"{base}/sign-in/second"
        assert (await walk.press(second.url)).path == base


def test_every_form_is_in_a_walk(make_settings: SettingsFactory) -> None:
    names = OUT | ACCOUNT | APP | ONE_PASSKEY | {CODE, "prove  password", "check-mail "}
    names |= {"sign-in/enrol ", *(name for mailed in MAILED.values() for name in mailed)}
    sent = {f"/account/{name.split(' ')[0]}".replace("/profile", "") for name in names}
    # The script of the page sends this form.
    sent.add("/account/security/passkeys")
    every = {path.replace(ID, "{id}") for path in page_paths(create_app(make_settings()), "POST")}
    assert every == sent
