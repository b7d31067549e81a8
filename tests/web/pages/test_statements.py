"""How often the pages ask the database."""

from collections.abc import AsyncIterator, Mapping

import pytest

from authapi import Settings
from authapi.crypto.secrets import new_secret
from tests.web.logins import sign_in
from tests.web.pages.browser import Browser
from tests.web.pages.page_routes import page_paths
from tests.web.pages.scenes import create_person, furnish, open_browser
from tests.web.pages.statements import counting

OF_KNOWN_CALLERS: Mapping[str, int] = {
    "/account": 1,
    "/account/activity": 1,
    "/account/data": 0,
    "/account/data/delete": 2,
    "/account/devices": 1,
    "/account/security": 6,
    "/account/security/password": 2,
    "/account/sign-in": 0,
    "/account/tokens": 1,
    "/account/tokens/new": 0,
}


@pytest.fixture
async def browser(database_url: str) -> AsyncIterator[Browser]:
    async with open_browser(Settings(database_url=database_url)) as found:  # type: ignore[arg-type]  # pydantic parses it
        yield found


def every_page(browser: Browser) -> list[str]:
    app = browser.client._transport.app  # type: ignore[attr-defined]  # that of ASGI
    return list(page_paths(app))


async def statements_of(browser: Browser, path: str, cookie: str | None = None) -> list[str]:
    """What a request for a page asks the database."""
    headers = {} if cookie is None else {"cookie": cookie}
    with counting(browser.client.services.database) as statements:
        answer = await browser.request("GET", path, headers=headers)
    assert answer.status_code in {200, 303, 400}
    return statements


@pytest.mark.parametrize(
    "cookie", [None, "authapi=x", "authapi=a; authapi=b", "other=1"], ids=["none", "x", "two", "o"]
)
async def test_pages_without_a_session_ask_nothing(browser: Browser, cookie: str | None) -> None:
    for path in every_page(browser):
        assert await statements_of(browser, path, cookie) == [], path


async def test_a_session_that_is_unknown_or_has_ended_is_asked_for_once(browser: Browser) -> None:
    services = browser.client.services
    user = await create_person(browser.client)
    ended = (await sign_in(services, user))["cookie"]
    assert len(await statements_of(browser, "/account/devices", ended)) == 2
    await services.sessions.end_all(user.id)
    for path in every_page(browser):
        for cookie in (f"authapi={new_secret()}", ended):
            found = await statements_of(browser, path, cookie)
            assert len(found) <= 1, path
            assert all("sessions" in statement for statement in found)
    assert len(await statements_of(browser, "/account/sign-in", ended)) == 1


async def test_pages_of_a_known_caller_ask_for_their_rows_only(browser: Browser) -> None:
    user = await create_person(browser.client)
    await furnish(browser.client, user, rows=12)
    cookie = (await sign_in(browser.client.services, user))["cookie"]
    first = await statements_of(browser, "/account/data", cookie)
    assert len(first) == 1, "the caller"
    found = {path: len(await statements_of(browser, path, cookie)) for path in OF_KNOWN_CALLERS}
    assert found == OF_KNOWN_CALLERS
