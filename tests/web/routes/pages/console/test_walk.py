"""A walk over all links and forms of the console: no missing page, and each form succeeds."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from urllib.parse import urlsplit

import pytest

from authapi import create_app
from authapi.clock import now
from authapi.domain.email_address import parse_email
from authapi.domain.signing_key import KeyState
from tests.clocks import travel_to
from tests.web.pages.anatomy import alerts_of
from tests.web.pages.browser import Form, Page
from tests.web.pages.page_routes import ID, console_paths
from tests.web.routes.pages.console.queues import BAD, HOOKS, ROOT, Desk, open_desk
from tests.web.routes.pages.console.scene import Scene, console, console_settings
from tests.web.routes.pages.people import ALICE, sign_in_by_page

START = "/console/people"
FORMS: Mapping[str, Mapping[str, str]] = {
    "save": {"name": "A new name", "role reader": "yes"},
    "end-login": {},
    "end-token": {},
    "reset-link": {},
    "reset-factors": {},
    "end-all": {},
    "deactivate": {},
    "activate": {},
    "delete": {"email": ALICE},
}
"""The forms of the page of an account in the order in which they are sent, with what is typed."""

QUEUES: Mapping[str, Sequence[tuple[str, str]]] = {
    "/console/mail": (("action", "test"), ("action", "retry"), ("entry", "")),
    "/console/webhooks": (("test", ""), ("retry", ""), ("entry", "")),
    "/console/keys": (("action", "rotate"), ("action", "retire")),
}
"""The buttons of the other pages, in the order in which they are used: their names, and the values
of those with the name `action`."""
MINUTE = timedelta(minutes=1)


async def links_of(scene: Scene, page: Page) -> list[str]:
    """The addresses of the console that a page leads to; files are read, and the public keys."""
    found = []
    for link in page.root.all("a"):
        url = str(page.answer.url.join(link["href"]))
        if link["href"].endswith("/jwks.json"):
            answer = await scene.browser.request("GET", urlsplit(url).path)
            assert (answer.status_code, "keys" in answer.json()) == (200, True), url
        elif "/console" not in url:
            continue
        elif "download" in link:
            answer = await scene.browser.request("GET", url)
            assert answer.status_code == 200
            assert answer.headers["content-disposition"].startswith("attachment")
        else:
            found.append(url)
    return found


def sent_by(page: Page, action: str) -> Form | None:
    return next((form for form in page.forms() if form.values.get("action") == action), None)


@pytest.mark.parametrize(("language", "prefix"), [("en", ""), ("ko", "/api/v1/auth")])
async def test_every_link_leads_to_a_page(database_url: str, language: str, prefix: str) -> None:
    settings = console_settings(database_url)
    async with console(settings, language=language, prefix=prefix) as scene:
        await scene.furnish()
        await scene.api.services.accounts.administration.invite(parse_email("dan@example.com"))
        origin = str(scene.api.base_url).rstrip("/")
        waiting, seen = [f"{origin}{prefix}{START}"], dict[str, Page]()
        while waiting:
            url = waiting.pop(0)
            if url in seen or len(seen) > 60:
                continue
            page = seen[url] = await scene.browser.open(url)
            assert (page.status, page.root["lang"]) == (200, language), url
            waiting += await links_of(scene, page)
        for path in console_paths(create_app(settings)):
            wanted = path.replace(ID, str(scene.alice.id))
            if path not in ("/console", "/console/events/export"):  # leads on, or is a file
                assert any(urlsplit(url).path == f"{prefix}{wanted}" for url in seen), wanted
        for part in ("logins=", "before=", "show=settings"):
            assert any(part in url for url in seen), part
        for page in list(seen.values()):
            for form in page.forms():
                if form.method == "get":
                    assert (await scene.browser.send(form)).status == 200, form.url


def buttons_of(page: Page) -> Mapping[tuple[str, str], Form]:
    """The buttons of the page that change something, without the one that signs out.

    By the name, and for `action` by the value, which is an id of something else for other names.
    """
    return {
        (button["name"], button["value"] if button["name"] == "action" else ""): form
        for form in page.forms()
        if form.method == "post" and form.url.partition("?")[0].endswith(page.path)
        for button in [form.button]
    }


async def test_every_form_of_the_queues_and_of_the_keys_succeeds(database_url: str) -> None:
    hooks = {"webhook_events": ("account_renamed",), **HOOKS}
    with travel_to(now()) as clock:
        async with open_desk(database_url, **hooks) as desk:
            desk.post.statuses[BAD] = 204
            clock.shift(7 * MINUTE)  # verifiers have read the next key
            await sign_in_by_page(desk.api, ROOT)
            for path, wanted in QUEUES.items():
                for button in wanted:
                    await give_up_entries(desk)
                    page = await desk.browser.open(path)
                    found = buttons_of(page)
                    assert found.keys() == set(wanted), path
                    typed = {}
                    if button == ("action", "retire"):
                        stored = await desk.api.services.keys.list_stored()
                        [typed["kid"]] = [it.kid for it in stored if it.state is KeyState.ACTIVE]
                    done = await desk.browser.send(found[button], **typed)
                    assert (done.status, alerts_of(done.root)) == (200, []), (path, button)
                    assert done.url.endswith("done=now"), (path, button)


async def give_up_entries(desk: Desk) -> None:
    """Gives up a mail, and an event for each receiver."""
    await desk.queue_mail()
    await desk.rename()
    await desk.give_up("mail", "away")
    for url in HOOKS["webhook_urls"]:
        await desk.give_up("webhook", "away", receiver=desk.receiver_of(url))


async def test_the_form_of_invitations_succeeds(scene: Scene) -> None:
    page = await scene.browser.open("/console/people/new")
    [form] = buttons_of(page).values()
    done = await scene.browser.send(form, emails="dan@example.com")
    assert (done.status, alerts_of(done.root)) == (200, [])
    assert "dan@example.com" in done.text


async def test_every_form_of_an_account_succeeds(scene: Scene) -> None:
    await scene.furnish(2)
    for action, typed in FORMS.items():
        page = await scene.browser.open(scene.person)
        form = sent_by(page, action)
        if form is None:  # the account has no second factor
            assert action == "reset-factors"
            continue
        done = await scene.browser.send(form, **typed)
        assert (done.status, alerts_of(done.root)) == (200, []), action
        assert done.url.endswith("done=now")
