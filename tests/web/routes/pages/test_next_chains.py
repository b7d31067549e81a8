"""`next` is kept on the way between the pages that end in a login, and through refused forms."""

import html
import re
from collections.abc import AsyncIterator
from urllib.parse import parse_qs, urlsplit

import httpx
import pyotp
import pytest

from authapi import Settings, create_app
from authapi.clock import now
from authapi.testing import PASSWORD, Client, client
from tests.conftest import SettingsFactory
from tests.second_factors import add_second_factors
from tests.web.pages.checks import main_of
from tests.web.routes.pages.people import ALICE, follow

WANTED = "/reports?from=1&to=2"
EVIL = "https://evil.example/"
FORM = {"email": ALICE, "password": PASSWORD}


@pytest.fixture
async def api(database_url: str) -> AsyncIterator[Client]:
    async with client(create_app(Settings(database_url=database_url))) as found:  # type: ignore[arg-type]  # pydantic parses it
        yield found


def next_of(address: str) -> str | None:
    """The `next` in an address."""
    return parse_qs(urlsplit(html.unescape(address)).query).get("next", [None])[0]


async def click(api: Client, page: httpx.Response, text: str) -> httpx.Response:
    """The page behind the link with this text."""
    [address] = re.findall(rf'<a[^>]* href="([^"]+)"[^>]*>{re.escape(text)}</a>', page.text)
    return await api.get(str(page.url.join(html.unescape(address))))


async def send(
    api: Client, page: httpx.Response, action: str, **typed: str
) -> tuple[httpx.Response, dict[str, str]]:
    """The answer to the first form of a page with this action, and its hidden fields."""
    found = re.search(rf'<form method="post" action="{action}">(.*?)</form>', page.text, re.DOTALL)
    assert found is not None
    pairs = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', found[1])
    hidden = {name: html.unescape(value) for name, value in pairs}
    target = str(page.url.join(action))
    return await api.post(target, data={**hidden, **typed}), hidden


async def arrive(api: Client, answer: httpx.Response) -> str:
    """Where a login leads in the end."""
    arrived = await follow(api, answer)
    assert arrived.status_code == 303
    return arrived.headers["location"]


async def test_from_signing_in_to_the_forgotten_password_and_back(api: Client) -> None:
    await api.create_user(ALICE)
    page = await api.get("/account/sign-in", params={"next": WANTED})
    forgot = await click(api, page, "Forgot your password?")
    for _ in range(2):  # the link moves beside the password
        page, _ = await send(api, page, "sign-in", email=ALICE, password="wrong")
        forgot = await click(api, page, "Forgot your password?")
        assert next_of(str(forgot.url)) == WANTED
    refused, _ = await send(api, forgot, "forgot", email="x")
    assert refused.status_code == 422
    for shown in (forgot, refused):
        back = await click(api, shown, "Back to signing in")
        assert 'name="next" value="/reports?' in back.text
    sent, _ = await send(api, refused, "forgot", email=ALICE)
    done = await follow(api, sent)
    again, hidden = await send(api, done, "forgot")
    assert hidden == {"email": ALICE, "next": WANTED}
    back = await click(api, await follow(api, again), "Sign in")
    sent, _ = await send(api, back, "sign-in", **FORM)
    assert await arrive(api, sent) == WANTED


async def test_from_signing_in_to_signing_up(api: Client) -> None:
    page = await api.get("/account/sign-in", params={"next": WANTED})
    page = await click(api, page, "Create an account")
    page, _ = await send(api, page, "sign-up", email="x", password=PASSWORD)
    assert page.status_code == 422
    assert next_of(str((await click(api, page, "Sign in")).url)) == WANTED
    sent, _ = await send(api, page, "sign-up", **FORM)
    assert await arrive(api, sent) == WANTED


async def test_an_address_that_must_be_confirmed(make_settings: SettingsFactory) -> None:
    async with client(create_app(make_settings(registration="confirm"))) as api:
        page = await api.get("/account/sign-up", params={"next": WANTED})
        sent, _ = await send(api, page, "sign-up", **FORM)
        page = await follow(api, sent)
        refused, _ = await send(api, page, "check-mail", email="x")
        assert refused.status_code == 422
        again, _ = await send(api, refused, "check-mail", email=ALICE)
        for shown in (page, refused, await follow(api, again)):
            assert next_of(str((await click(api, shown, "Start over")).url)) == WANTED


async def test_where_accounts_are_made_by_invitation(make_settings: SettingsFactory) -> None:
    async with client(create_app(make_settings(registration="invite"))) as api:
        page = await api.get("/account/sign-up", params={"next": WANTED})
        assert next_of(str((await click(api, page, "Sign in")).url)) == WANTED
        page = await api.post("/account/sign-up", data={**FORM, "next": WANTED})
        assert next_of(str((await click(api, page, "Sign in")).url)) == WANTED


async def test_the_second_step(api: Client) -> None:
    factors = await add_second_factors(api.services, await api.create_user(ALICE))
    page = await api.get("/account/sign-in", params={"next": WANTED})
    sent, _ = await send(api, page, "sign-in", **FORM)
    page = await follow(api, sent)
    wrong, _ = await send(api, page, "../sign-in/second", code=factors.wrong_code())
    for shown in (page, wrong):
        assert next_of(str((await click(api, shown, "Begin again")).url)) == WANTED
    sent, _ = await send(api, wrong, "../sign-in/second", code=factors.code())
    assert await arrive(api, sent) == WANTED


async def test_a_login_that_adds_its_second_step(make_settings: SettingsFactory) -> None:
    async with client(create_app(make_settings(mfa="required"))) as api:
        user = await api.create_user(ALICE)
        await api.services.accounts.email_changes.confirm_for_operator(user.id)
        page = await api.get("/account/sign-in", params={"next": WANTED})
        sent, _ = await send(api, page, "sign-in", **FORM)
        page = await follow(api, sent)
        assert next_of(str((await click(api, page, "Begin again")).url)) == WANTED
        shown, _ = await send(api, page, "../sign-in/enrol")
        [key] = re.findall(r'<p class="key"><code>([A-Z2-7 ]+)</code>', shown.text)
        wrong, _ = await send(api, shown, "../sign-in/enrol", code="x")
        assert wrong.status_code == 422
        code = pyotp.TOTP(key.replace(" ", "")).at(now())
        done, _ = await send(api, wrong, "../sign-in/enrol", code=code)
        arrived = await click(api, done, "I kept them")
        assert arrived.headers["location"] == WANTED


@pytest.mark.parametrize("path", ["sign-in", "sign-up", "forgot", "forgot?done=sent", "check-mail"])
async def test_another_host_is_forgotten(api: Client, path: str) -> None:
    """No page repeats it, neither in a form nor in a link."""
    shown = await api.get(f"/account/{path}", params={"next": EVIL, "done": "sent"})
    assert "evil.example" not in main_of(shown)
    sent = await api.post(f"/account/{path.partition('?')[0]}", data={"email": "x", "next": EVIL})
    assert sent.status_code == 422
    assert "evil.example" not in main_of(sent)
