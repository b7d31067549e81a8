"""40: each statement of each route fails: all or nothing, and the right status.

A new route fails these tests until a scene sends a request to it that succeeds.
"""

import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import time_machine
from fastapi import FastAPI

from authapi import Settings, create_app
from authapi.clock import now
from authapi.domain.signing_key import KeyState
from authapi.testing import Client
from authapi.web.installation import runtime_of
from authapi.web.routes.pages.mail import PAGES
from tests.clocks import travel_to
from tests.faults.conftest import Report
from tests.faults.harness.contents import observing
from tests.faults.harness.figures import SCALE
from tests.faults.harness.injection import injecting
from tests.faults.harness.matrix import Coverage, Matrix
from tests.faults.harness.story import Story
from tests.second_factors import add_second_factors, insert_passkey
from tests.servers.webhooks import Post
from tests.web.logins import sign_in
from tests.web.mailbox import client_with_mailbox
from tests.web.operations import operations
from tests.web.pages.anatomy import alerts_of
from tests.web.pages.browser import Browser
from tests.web.pages.page_routes import ID, console_paths, page_paths
from tests.web.pages.scenes import SCOPES, create_person, furnish, mailed
from tests.web.pages.test_walk import MAILED, SIGN_UP
from tests.web.pages.walk import Person, Walk
from tests.web.routes.pages.console.queues import BAD, GOOD, HOOKS, ROOT, Desk
from tests.web.routes.pages.console.scene import ROLES, Scene
from tests.web.routes.pages.console.test_walk import (
    FORMS,
    QUEUES,
    buttons_of,
    give_up_entries,
    links_of,
    sent_by,
)
from tests.web.routes.pages.people import ALICE, STALE, sign_in_by_page
from tests.web.scanners import Scanner, publish

pytestmark = pytest.mark.faults

_PAGES = pytest.mark.parametrize(
    "database_url", ["sqlite", "postgres"] if SCALE > 1 else ["sqlite"], indirect=True
)
"""The pages call the same services as the API, which is tested on both databases in each size."""
UNLIMITED = "1000000/second"
LIMITS = ("account_and_network", "account", "network", "total", "registrations", "writes", "mails")


def settings_of(url: str, **changes: Any) -> Settings:
    """Settings with every route, and without limits."""
    values = {
        "database_url": url,
        "scopes": SCOPES,
        "jwt_audiences": ("billing",),
        "password_grant": "on",
        "passkey_origins": ("https://other.example",),
        **{f"limit_{name}": UNLIMITED for name in LIMITS},
        **changes,
    }
    return Settings(**values)


@asynccontextmanager
async def failing(
    settings: Settings, coverage: Coverage, app: FastAPI | None = None
) -> AsyncIterator[Client]:
    """A client each of whose requests fails at each of its statements first."""
    async with AsyncExitStack() as stack:
        api = await stack.enter_async_context(client_with_mailbox(settings, app))
        observer = stack.enter_context(observing(settings.resolved_database_url))
        stack.enter_context(injecting())
        await Matrix.install(api, observer, coverage)
        yield api


async def test_40_failing_statements_of_the_api(
    database_url: str, report: Report, tmp_path: Path
) -> None:
    coverage, scanner = Coverage(), Scanner()
    keys = publish(tmp_path / "scanners.json", scanner)
    settings = settings_of(database_url, leak_report_keys=keys)
    async with failing(settings, coverage) as api:
        await Story(api, scanner).run()
    async with failing(settings_of(database_url, mfa="required"), coverage) as api:
        await Story(api, scanner).enrolment()
    report(coverage.summary())
    every = {f"{found.method} {found.template}" for found in operations(create_app(settings))}
    assert coverage.violations == []
    assert every - set(coverage.requests) == set()


@_PAGES
async def test_40_failing_statements_of_the_pages(database_url: str, report: Report) -> None:
    coverage, settings = Coverage(), settings_of(database_url)
    with travel_to(now()) as clock:
        async with failing(settings, coverage) as api:
            await walk_everywhere(api, clock)
            await press_passkeys(api, clock)
            await ask_for_mail(api)
            await follow_mails(api, clock)
        async with failing(settings_of(database_url, mfa="required"), coverage) as api:
            await create_person(api, "kim@example.com")
            walk = Walk(Browser(api), Person("kim@example.com"), clock, skips=frozenset({SIGN_UP}))
            await walk.run("/account/sign-in")
    report(coverage.summary())
    app = create_app(settings)
    every = {f"{method} {path}" for method in ("GET", "POST") for path in page_paths(app, method)}
    assert coverage.violations == []
    assert every - {re.sub(r"\{\w+\}", ID, route) for route in coverage.requests} == set()


async def walk_everywhere(api: Client, clock: time_machine.Traveller) -> None:
    """A person with a second factor sends every form."""
    user = await create_person(api)
    await furnish(api, user, rows=1)
    factors = await add_second_factors(api.services, user)
    person = Person(app=factors.app, recovery_codes=factors.codes)
    await insert_passkey(api.services, factors.user, person.passkey)
    walk = Walk(Browser(api), person, clock)
    await walk.sign_in()
    await walk.run("/account", "/account/sign-in")


async def press_passkeys(api: Client, clock: time_machine.Traveller) -> None:
    """What a browser with a script does: adds a passkey, and signs in with it."""
    await create_person(api, "lea@example.com")
    api.cookies.clear()
    api.base_url = "http://localhost:8000"
    walk = Walk(Browser(api), Person("lea@example.com"), clock)
    await walk.sign_in()
    await walk.press("/account/security/passkeys")
    clock.shift(STALE)
    await walk.press("/account/prove?next=/account/tokens")
    api.cookies.clear()
    await walk.press("/account/sign-in")
    api.cookies.clear()
    api.base_url = "http://127.0.0.1:8000"


async def ask_for_mail(api: Client) -> None:
    """Asks for the mail of a new account again."""
    browser = Browser(api)
    page = await browser.open("/account/check-mail")
    form = next(form for form in page.forms() if form.method == "post")
    await browser.send(form, email=ALICE)


async def follow_mails(api: Client, clock: time_machine.Traveller) -> None:
    """Sends the forms behind the links of mails."""
    browser = Browser(api)
    for name, page in PAGES.items():
        for number in range(len(MAILED[name])):
            user = await create_person(api, f"{name}{number}@example.com")
            token = await mailed(api, user, page.purposes[0], email=user.email)
            shown = await browser.open(f"/account/{name}?token={token}")
            walk = Walk(browser, Person(user.email), clock)
            form = [form for form in shown.forms() if form.method == "post"][number]
            await browser.send(form, **walk.typed(form))


@_PAGES
async def test_40_failing_statements_of_the_console(database_url: str, report: Report) -> None:
    coverage = Coverage()
    settings = settings_of(database_url, roles=ROLES, webhook_events=("account_renamed",), **HOOKS)
    post = Post({GOOD: 204, BAD: 204})
    app = create_app(settings)
    services = runtime_of(app).services
    services.outbox._handlers.pop("webhook", None)
    services.webhooks._post = post
    with travel_to(now()) as clock:
        async with failing(settings, coverage, app) as api:
            root = await create_person(api, ROOT, is_superuser=True)
            alice = await create_person(api, ALICE)
            api.headers.update(await sign_in(api.services, root))
            scene = Scene(Browser(api), root, alice)
            await read_console(scene)
            clock.shift(timedelta(minutes=7))  # verifiers have read the next key
            api.headers.pop("cookie")
            await sign_in_by_page(api, ROOT)
            await use_queues(Desk(scene.browser, root, post))
            await change_people(scene)
    report(coverage.summary())
    every = {
        f"{method} {path}" for method in ("GET", "POST") for path in console_paths(app, method)
    }
    assert coverage.violations == []
    assert every - {re.sub(r"\{\w+\}", ID, route) for route in coverage.requests} == set()


async def read_console(scene: Scene) -> None:
    """Opens each page, and downloads the events."""
    await scene.furnish(2)
    for path in console_paths(scene.api._transport.app):  # type: ignore[attr-defined]  # that of ASGI
        await scene.browser.request("GET", path.replace(ID, str(scene.alice.id)))
    await links_of(scene, await scene.browser.open("/console/events"))


async def use_queues(desk: Desk) -> None:
    """Presses each button of the pages of mail, webhooks and keys."""
    for path, wanted in QUEUES.items():
        for button in wanted:
            await give_up_entries(desk)
            page = await desk.browser.open(path)
            typed = {}
            if button == ("action", "retire"):
                stored = await desk.api.services.keys.list_stored()
                [typed["kid"]] = [it.kid for it in stored if it.state is KeyState.ACTIVE]
            done = await desk.browser.send(buttons_of(page)[button], **typed)
            assert (done.status, alerts_of(done.root)) == (200, []), (path, button)


async def change_people(scene: Scene) -> None:
    """Invites a person, and sends each form of the page of an account."""
    page = await scene.browser.open("/console/people/new")
    [form] = buttons_of(page).values()
    await scene.browser.send(form, emails="dan@example.com")
    await add_second_factors(scene.api.services, scene.alice)
    for action, typed in FORMS.items():
        page = await scene.browser.open(scene.person)
        shown = sent_by(page, action)
        assert shown is not None, action
        done = await scene.browser.send(shown, **typed)
        assert (done.status, alerts_of(done.root)) == (200, []), action
