"""Mail scanners open links and submit the forms of the pages. This must not change anything."""

import re
from collections.abc import AsyncIterator
from datetime import timedelta
from html.parser import HTMLParser
from typing import Any

import httpx
import pytest

from authapi import Settings
from authapi.clock import now
from authapi.domain.email_address import parse_email
from authapi.domain.user import User
from authapi.services.accounts.email_tokens import EmailTokens
from authapi.services.mail import MailKind
from authapi.testing import PASSWORD, Client
from authapi.web.routes.pages.mail import PAGES
from tests.clocks import travel_to
from tests.web.logins import Headers, sign_in
from tests.web.mailbox import client_with_mailbox, mail_kinds, secret_in
from tests.web.pages.checks import check_page
from tests.web.pages.texts import ENGLISH, KOREAN
from tests.web.responses import problem

ALICE, NEW = "alice@example.com", "alice@example.org"
OTHER = "another horse, another battery"


@pytest.fixture
async def api(database_url: str) -> AsyncIterator[Client]:
    async with client_with_mailbox(Settings(database_url=database_url)) as found:  # type: ignore[arg-type]
        yield found


class Forms(HTMLParser):
    """Parses the forms of a page: for each button, the fields with their values."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.submits: list[tuple[str, dict[str, str]]] = []
        self._action, self._filled, self._changes = "", dict[str, str](), False
        self._buttons: list[dict[str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        if tag == "form":
            self._action, self._filled, self._buttons = found.get("action", ""), {}, []
            self._changes = found["method"] == "post"
        elif tag == "input" and "name" in found:
            self._filled[found["name"]] = found.get("value", "")
        elif tag == "button":
            self._buttons.append({found["name"]: found["value"]} if "name" in found else {})

    def handle_endtag(self, tag: str) -> None:
        if tag == "form" and self._changes:
            for button in self._buttons:
                self.submits.append((self._action, self._filled | button))


async def scan(api: Client, page: str, secret: str) -> list[httpx.Response]:
    """Open the link, then press each button of the page, with its values and with guessed ones."""
    opened = await api.get(f"/account/{page}", params={"token": secret})
    assert opened.status_code == 200
    if page in ("confirm", "undo"):
        assert "@example" not in opened.text, "the page contains the input that it asks for"
    forms = Forms(opened.text).submits
    assert forms
    answers: list[httpx.Response] = []
    for action, filled in forms:
        guesses: list[dict[str, str]] = [
            {},
            {name: "test" for name, value in filled.items() if not value},
            {name: "test@example.com" for name, value in filled.items() if not value},
        ]
        answers += [await api.post(f"/account/{action}", data=filled | guess) for guess in guesses]
    return answers


async def moved(api: Client) -> tuple[User, Headers, str]:
    """An account whose address was changed to `NEW`: user, session, and the revert token."""
    alice = await api.create_user(ALICE)
    async with api.services.database.transaction() as store:
        await store.users.confirm_email(alice.id, at=now())
    headers = await sign_in(api.services, alice)
    answer = await api.post("/me/email", json={"email": NEW}, headers=headers)
    assert answer.status_code == 202
    body = {"token": await secret_in(api.services, "change", NEW)}
    assert (await api.post("/email/confirm", json=body, headers=headers)).status_code == 204
    return alice, headers, await secret_in(api.services, "email_changed", ALICE)


@pytest.mark.parametrize(
    "page",
    # The page `disown` needs no input: tests/web/routes/recovery/test_logins.py has what a scanner
    # can do there.
    [name for name in PAGES if name != "disown"],
)
async def test_a_mail_scanner_changes_nothing(api: Client, page: str) -> None:
    services = api.services
    if page == "undo":
        alice, headers, secret = await moved(api)
    else:
        alice = await api.create_user(ALICE, name="Alice")
        headers = await sign_in(services, alice)
        if page == "invitation":
            async with services.database.transaction() as store:
                await EmailTokens(services.database, services.mail, services.settings).send(
                    store, alice, MailKind.INVITATION
                )
        else:
            path = {"confirm": "/email/confirm/request", "reset": "/password/forgot"}[page]
            assert (await api.post(path, json={"email": ALICE})).status_code == 202
        secret = await secret_in(services, page, ALICE)
    before, sent = await services.accounts.profiles.find(alice.id), await mail_kinds(services)
    for answer in await scan(api, page, secret):
        assert answer.status_code in {403, 422, 429}
    assert await services.accounts.profiles.find(alice.id) == before
    assert await mail_kinds(services) == sent
    assert (await api.get("/me", headers=headers)).status_code == 200
    login = {"email": before.email, "password": PASSWORD}
    assert (await api.post("/login", json=login)).status_code == 200
    assert (await api.get(f"/account/{page}", params={"token": secret})).status_code == 200


@pytest.mark.parametrize("language", ["en", "ko"])
async def test_the_page_describes_the_input(api: Client, language: str) -> None:
    texts = {"en": ENGLISH, "ko": KOREAN}[language]
    headers = {"accept-language": language}
    alice, _, secret = await moved(api)
    shown = await api.get("/account/undo", params={"token": secret}, headers=headers)
    check_page(shown, 200, texts["undo.email"])
    form = {"token": secret, "email": NEW}
    wrong = await api.post("/account/undo", data=form, headers=headers)
    check_page(wrong, 422, texts["email_mismatch"], is_error=True)
    assert re.search(
        r'name="email"[^>]*value="alice@example.org"[^>]*aria-invalid="true"', wrong.text
    )
    empty = await api.post("/account/undo", data={**form, "email": ""}, headers=headers)
    check_page(empty, 422, texts["email_invalid"], is_error=True)
    # The address is compared in its canonical form.
    done = await api.post(
        "/account/undo",
        data={**form, "email": "ALICE@Example.com"},
        headers=headers,
        follow_redirects=True,
    )
    check_page(done, 200, texts["undo.done"])
    assert (await api.services.accounts.profiles.find(alice.id)).email == ALICE


async def test_typing_the_address_resets_the_account(api: Client) -> None:
    alice = await api.create_user(ALICE, name="Mallory")
    await api.post("/email/confirm/request", json={"email": ALICE})
    form = {"token": await secret_in(api.services, "confirm", ALICE), "action": "without_password"}
    for email, text in ((NEW, "email_mismatch"), ("", "email_invalid"), ("x", "email_invalid")):
        wrong = await api.post("/account/confirm", data={**form, "email": email})
        check_page(wrong, 422, ENGLISH[text], is_error=True)
        assert re.search(r'id="email"[^>]*aria-invalid="true"', wrong.text)
        assert not re.search(r'id="password"[^>]*aria-invalid', wrong.text)
    missing = await api.post("/account/confirm", data=form)
    check_page(missing, 422, ENGLISH["email_invalid"], is_error=True)
    assert (await api.services.accounts.profiles.find(alice.id)).name == "Mallory"
    done = await api.post("/account/confirm", data={**form, "email": ALICE}, follow_redirects=True)
    check_page(done, 200, ENGLISH["without_password.done"])
    assert (await api.services.accounts.profiles.find(alice.id)).name is None


async def test_the_json_routes_require_the_same_input(api: Client) -> None:
    alice, headers, secret = await moved(api)
    answer = await api.post("/email/undo", json={"token": secret})
    problem(answer, 422, "validation_failed")
    answer = await api.post("/email/undo", json={"token": secret, "email": NEW})
    document: Any = problem(answer, 422, "validation_failed")
    assert [(error["loc"], error["code"]) for error in document["errors"]] == [
        (["body", "email"], "email_mismatch")
    ]
    assert (await api.get("/me", headers=headers)).status_code == 200
    body = {"token": secret, "email": ALICE}
    assert (await api.post("/email/undo", json=body)).status_code == 204
    assert (await api.services.accounts.profiles.find(alice.id)).email == ALICE
    problem(await api.post("/email/undo", json=body), 400, "invalid_one_time_secret")


async def test_a_first_address_needs_more_than_the_link(api: Client) -> None:
    bob = await api.create_user("bob@example.com", name="Mallory")
    await api.post("/email/confirm/request", json={"email": bob.email})
    body = {"token": await secret_in(api.services, "confirm", bob.email)}
    api.cookies.clear()
    problem(await api.post("/email/confirm", json=body), 403, "proof_required")
    answer = await api.post("/email/confirm", json={**body, "email": ALICE})
    problem(answer, 422, "validation_failed")
    assert (await api.services.accounts.profiles.find(bob.id)).name == "Mallory"
    answer = await api.post("/email/confirm", json={**body, "email": bob.email})
    assert answer.status_code == 204
    assert (await api.services.accounts.profiles.find(bob.id)).name is None


async def test_the_address_does_not_confirm_an_email_change(api: Client) -> None:
    alice = await api.create_user(ALICE)
    headers = await sign_in(api.services, alice)
    await api.post("/me/email", json={"email": NEW}, headers=headers)
    body = {"token": await secret_in(api.services, "change", NEW)}
    api.cookies.clear()
    for email in (NEW, ALICE):
        answer = await api.post("/email/confirm", json={**body, "email": email})
        problem(answer, 403, "proof_required")
        form = {**body, "email": email, "action": "without_password"}
        answer = await api.post("/account/confirm", data=form)
        check_page(answer, 403, ENGLISH["proof_required"], is_error=True)


@pytest.mark.parametrize("is_page", [True, False])
async def test_attempts_are_limited_for_each_link(api: Client, is_page: bool) -> None:
    alice, _, secret = await moved(api)

    async def type_in(email: str) -> httpx.Response:
        form = {"token": secret, "email": email}
        if is_page:
            return await api.post("/account/undo", data=form)
        return await api.post("/email/undo", json=form)

    with travel_to(now()) as clock:
        for number in range(10):
            assert (await type_in(f"alice{number}@example.com")).status_code == 422
        for email in (NEW, ALICE):
            refused = await type_in(email)
            assert refused.status_code == 429
            assert int(refused.headers["retry-after"]) > 0
        # The limit does not block logins of the owner.
        login = {"email": NEW, "password": PASSWORD}
        assert (await api.post("/login", json=login)).status_code == 200
        clock.shift(timedelta(minutes=2))
        assert not (await type_in(ALICE)).is_error
    assert (await api.services.accounts.profiles.find_by_email(parse_email(ALICE))).id == alice.id
