"""35: each statement of each route fails: all or nothing, and the right status.

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

from authapi import Settings, create_app
from authapi.clock import now
from authapi.testing import Client
from authapi.web.routes.pages.mail import PAGES
from tests.clocks import travel_to
from tests.faults.conftest import Report
from tests.faults.harness.contents import observing
from tests.faults.harness.injection import injecting
from tests.faults.harness.matrix import Coverage, Matrix
from tests.faults.harness.story import Story
from tests.second_factors import add_second_factors, insert_passkey
from tests.web.logins import sign_in
from tests.web.mailbox import client_with_mailbox
from tests.web.operations import operations
from tests.web.pages.browser import Browser, Page
from tests.web.pages.page_routes import ID, console_paths, page_paths
from tests.web.pages.scenes import SCOPES, create_person, furnish, mailed
from tests.web.pages.walk import Person, Walk
from tests.web.routes.pages.console.queues import HOOKS, ROOT
from tests.web.routes.pages.console.test_walk import FORMS, QUEUES, sent_by
from tests.web.routes.pages.people import ALICE
from tests.web.scanners import Scanner, publish

pytestmark = pytest.mark.faults

UNLIMITED = "1000000/second"
LIMITS = ("account_and_network", "account", "network", "total", "registrations", "writes")


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
async def failing(settings: Settings, coverage: Coverage) -> AsyncIterator[Client]:
    """A client each of whose requests fails at each of its statements first."""
    async with AsyncExitStack() as stack:
        api = await stack.enter_async_context(client_with_mailbox(settings))
        observer = stack.enter_context(observing(settings.resolved_database_url))
        stack.enter_context(injecting())
        await Matrix.install(api, observer, coverage)
        yield api


async def test_35_failing_statements_of_the_api(
    database_url: str, report: Report, tmp_path: Path
) -> None:
    coverage, scanner = Coverage(), Scanner()
    keys = publish(tmp_path / "scanners.json", scanner)
    settings = settings_of(database_url, leak_report_keys=keys)
    async with failing(settings, coverage) as api:
        await Story(api, scanner).run()
    async with failing(settings_of(database_url, mfa="required"), coverage) as api:
        await Story(api, scanner).enrolment()
    import pathlib; pathlib.Path("/tmp/b27/viol").write_text(chr(10).join(coverage.violations))
    report(coverage.summary())
    every = {f"{found.method} {found.template}" for found in operations(create_app(settings))}
    assert coverage.violations == []
    assert every - set(coverage.requests) == set()


async def test_35_failing_statements_of_the_pages(database_url: str, report: Report) -> None:
    coverage, settings = Coverage(), settings_of(database_url)
    with travel_to(now()) as clock:
        async with failing(settings, coverage) as api:
            await walk_everywhere(api, clock)
            await follow_mails(api)
        async with failing(settings_of(database_url, mfa="required"), coverage) as api:
            await create_person(api, "kim@example.com")
            walk = Walk(Browser(api), Person("kim@example.com"), clock, skips=frozenset())
            await walk.sign_in()
            await walk.explore("/account/sign-in/enrol")
            await walk.run()
    import pathlib; pathlib.Path("/tmp/b27/viol").write_text(chr(10).join(coverage.violations))
    report(coverage.summary())
    app = create_app(settings)
    every = {
        f"{method} {path}" for method in ("GET", "POST") for path in page_paths(app, method)
    }
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


async def follow_mails(api: Client) -> None:
    """Sends the forms behind the links of mails."""
    browser = Browser(api)
    for number, (name, page) in enumerate(PAGES.items()):
        user = await create_person(api, f"person{number}@example.com")
        token = await mailed(api, user, page.purposes[0], email=user.email)
        shown = await browser.open(f"/account/{name}?token={token}")
        walk = Walk(browser, Person(user.email), travel_to(now()))
        form = next(form for form in shown.forms() if form.method == "post")
        await browser.send(form, **walk.typed(form))


async def test_35_failing_statements_of_the_console(database_url: str, report: Report) -> None:
    pass
