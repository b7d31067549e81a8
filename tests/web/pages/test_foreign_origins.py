"""Every form is refused if another website has sent it, with a page that leads on."""

from collections.abc import Mapping

import pytest
import sqlalchemy as sa

from authapi import create_app
from authapi.testing import PASSWORD
from tests.conftest import SettingsFactory
from tests.tables import metadata
from tests.web.logins import sign_in
from tests.web.pages.anatomy import alerts_of, page_of
from tests.web.pages.browser import Browser
from tests.web.pages.page_routes import page_paths
from tests.web.pages.scenes import create_person, open_browser
from tests.web.pages.texts import ENGLISH
from tests.web.routes.pages.people import ALICE

OWN = "http://127.0.0.1:8000"
FOREIGN: Mapping[str, Mapping[str, str]] = {
    "another website": {"origin": "https://evil.example", "sec-fetch-site": "cross-site"},
    "no origin": {"sec-fetch-site": "cross-site"},
    "no origin, sibling": {"sec-fetch-site": "same-site"},
    "own origin, cross-site": {"origin": OWN, "sec-fetch-site": "cross-site"},
    "opaque origin": {"origin": "null"},
    "opaque origin, cross-site": {"origin": "null", "sec-fetch-site": "cross-site"},
    "another port": {"origin": "http://127.0.0.1:8001"},
    "a longer host": {"origin": "http://127.0.0.1:8000.evil.example"},
    "two origins": {"origin": f"{OWN}, https://evil.example"},
    "unknown site": {"origin": OWN, "sec-fetch-site": "elsewhere"},
}
FORM = {
    "email": ALICE,
    "password": PASSWORD,
    "current_password": PASSWORD,
    "new_password": "another horse another battery",
    "name": "Mallory",
    "action": "others",
    "form": "x",
    "expires": "90",
}
"""Values with which some of the forms would succeed."""


async def rows(browser: Browser) -> Mapping[str, object]:
    """All rows but events, which tell of refusals, and the times of last use."""
    found = {}
    async with browser.client.services.database.engine.connect() as connection:
        for table in metadata.sorted_tables:
            if not table.name.endswith("events"):
                columns = [it for it in table.columns if not it.name.startswith("last_")]
                found[table.name] = sorted(
                    map(repr, (await connection.execute(sa.select(*columns))).all())
                )
    return found


@pytest.mark.parametrize("is_signed_in", [False, True], ids=["signed out", "signed in"])
async def test_every_form_of_another_website_is_refused(
    make_settings: SettingsFactory, is_signed_in: bool
) -> None:
    settings = make_settings()
    async with open_browser(settings) as browser:
        user = await create_person(browser.client)
        cookie = await sign_in(browser.client.services, user) if is_signed_in else {}
        before = await rows(browser)
        paths = page_paths(create_app(settings), "POST")
        assert len(paths) > 20
        for path in paths:
            for name, headers in FOREIGN.items():
                answer = await browser.client.post(
                    path, data=FORM, headers={**cookie, **headers, "accept": "text/html"}
                )
                assert answer.status_code == 403, (path, name)
                root = page_of(answer)
                assert alerts_of(root) == [ENGLISH["foreign_origin"]]
                assert "set-cookie" not in answer.headers
                assert "clear-site-data" not in answer.headers
                assert "Mallory" not in answer.text
        assert await rows(browser) == before


async def test_the_same_forms_of_this_website_are_not(make_settings: SettingsFactory) -> None:
    settings = make_settings()
    async with open_browser(settings) as browser:
        for path in page_paths(create_app(settings), "POST"):
            for headers in (
                {"origin": OWN},
                {"origin": OWN, "sec-fetch-site": "same-origin"},
                {"sec-fetch-site": "same-origin"},
            ):
                answer = await browser.client.post(path, data=FORM, headers=headers)
                assert ENGLISH["foreign_origin"] not in answer.text, path
                browser.client.cookies.clear()


@pytest.mark.parametrize("kind", ["text/plain", "multipart/form-data; boundary=x", ""])
async def test_forms_have_one_encoding(make_settings: SettingsFactory, kind: str) -> None:
    """A form of another website can choose the encoding; the body may look like ours."""
    settings = make_settings()
    async with open_browser(settings) as browser:
        for path in page_paths(create_app(settings), "POST"):
            headers = {"origin": OWN} | ({"content-type": kind} if kind else {})
            answer = await browser.client.post(path, content=b"email=a&x=1", headers=headers)
            assert answer.status_code == 415, path
            assert alerts_of(page_of(answer)) == [ENGLISH["unsupported_media_type"]]
