"""How much a browser loads: pages of twenty rows, the stylesheet and the script."""

import re
from urllib.parse import urljoin, urlsplit

import pytest

from tests.conftest import SettingsFactory
from tests.second_factors import add_second_factors, insert_passkey
from tests.soft_authenticator import SoftAuthenticator
from tests.web.logins import sign_in
from tests.web.pages.browser import Browser
from tests.web.pages.page_routes import ID, console_paths, page_paths
from tests.web.pages.scenes import ROWS, SCOPES, create_person, furnish, open_browser
from tests.web.routes.pages.console.queues import BAD, HOOKS, open_desk

MAX_HTML, MAX_CSS, MAX_JS = 12 * 1024, 14 * 1024, 6 * 1024
MAX_CONSOLE_CSS = 8 * 1024


@pytest.mark.parametrize("language", ["en", "ko"])
async def test_pages_of_twenty_rows_are_light(
    make_settings: SettingsFactory, language: str
) -> None:
    settings = make_settings(scopes=SCOPES, terms_url="https://acme.example/terms")
    async with open_browser(settings, language=language) as browser:
        api = browser.client
        user = await create_person(api)
        await furnish(api, user)
        await add_second_factors(api.services, user)
        for _ in range(ROWS):
            await insert_passkey(api.services, user, SoftAuthenticator())
        api.headers.update(await sign_in(api.services, user))
        sizes, rows = {}, 0
        for path in page_paths(api._transport.app):  # type: ignore[attr-defined]  # that of ASGI
            if path.endswith("/export"):
                continue
            answer = await browser.request("GET", path)
            if answer.status_code < 300:
                sizes[path] = len(answer.content)
                rows += answer.text.count("<li>") + answer.text.count('class="row"')
        assert {path: size for path, size in sizes.items() if size > MAX_HTML} == {}
        assert len(sizes) > 15
        assert rows > 4 * ROWS


@pytest.mark.parametrize("language", ["en", "ko"])
async def test_pages_of_the_console_are_light(database_url: str, language: str) -> None:
    """Each page has as many rows as it shows at once."""
    async with open_desk(database_url, **HOOKS, roles={"editor": ()}) as desk:
        api, browser = desk.api, Browser(desk.api, language)
        for number in range(ROWS):
            await create_person(api, f"a.person.with.a.name-{number}@mail.example.com")
        person = await create_person(api)
        await furnish(api, person)
        await desk.queue_mail(ROWS)
        await desk.give_up("mail", "451 4.7.1 try again later, please: " + "x" * 100)
        await desk.queue_mail(ROWS)
        await desk.give_up("webhook", "410", receiver=desk.receiver_of(BAD))
        paths = {
            path.replace(ID, str(person.id))
            for path in console_paths(api._transport.app)  # type: ignore[attr-defined]  # that of ASGI
        } - {"/console", "/console/events/export"}
        sizes = {}
        for path in (*paths, "/console/status?show=settings"):
            answer = await browser.request("GET", path)
            assert answer.status_code == 200, path
            sizes[path] = len(answer.content)
        assert {path: size for path, size in sizes.items() if size > MAX_HTML} == {}
        shown = await browser.open("/console/people")
        [css] = [link["href"] for link in shown.root.all("link") if "console.css" in link["href"]]
        style = await browser.request("GET", urljoin(shown.url, css))
        assert 0 < len(style.content) <= MAX_CONSOLE_CSS


async def test_files_are_light_and_of_this_host(make_settings: SettingsFactory) -> None:
    async with open_browser(make_settings()) as browser:
        shown = await browser.open("/account/sign-in")
        found = {}
        for element in shown.root.all("link", "script", "img"):
            url = urljoin(shown.url, element["href"] or element["src"])
            answer = await browser.request("GET", url)
            assert answer.status_code == 200
            assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
            text = answer.text
            for name in ('xmlns="http://www.w3.org/2000/svg"', '"http://localhost"'):  # not loaded
                text = text.replace(name, "")
            assert "//" not in re.sub(r"^\s*//.*$|/\*.*?\*/", "", text, flags=re.MULTILINE)
            found[urlsplit(url).path.rpartition("/")[2]] = len(answer.content)
        assert found.keys() >= {"page.css", "theme.css", "ui.js"}
        assert sum(size for name, size in found.items() if name.endswith(".css")) <= MAX_CSS
        assert found["ui.js"] <= MAX_JS
