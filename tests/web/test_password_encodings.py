"""Unicode encodings of one password are equivalent wherever a password is read (RFC 8265)."""

import base64
import unicodedata
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest

from authapi import Settings
from authapi.domain.email_address import parse_email
from authapi.testing import PASSWORD, Client
from tests.web.logins import sign_in
from tests.web.mailbox import client_with_mailbox, secret_in
from tests.web.responses import problem

ALICE = "alice@example.com"
COMPOSED = "crème brûlée à la carte 47"
DECOMPOSED = unicodedata.normalize("NFD", COMPOSED)
SPACED = COMPOSED.replace(" ", "\u00a0")
OTHER = "another horse, another battery"
FORMS = (COMPOSED, DECOMPOSED, SPACED)
WRONG = unicodedata.normalize("NFD", COMPOSED.replace("è", "é"))


@pytest.fixture
async def api(database_url: str) -> AsyncIterator[Client]:
    chosen: dict[str, Any] = {"strategies": "session,token,jwt,basic"}
    async with client_with_mailbox(Settings(database_url=database_url, **chosen)) as found:  # type: ignore[arg-type]
        yield found


async def by_json(api: Client, password: str) -> httpx.Response:
    return await api.post("/login", json={"email": ALICE, "password": password})


async def by_grant(api: Client, password: str) -> httpx.Response:
    form = {"grant_type": "password", "username": ALICE, "password": password}
    return await api.post("/token", data=form)


async def by_basic(api: Client, password: str) -> httpx.Response:
    credential = base64.b64encode(f"{ALICE}:{password}".encode()).decode()
    return await api.get("/me", headers={"authorization": f"Basic {credential}"})


async def headers_of(api: Client) -> dict[str, str]:
    alice = await api.services.accounts.profiles.find_by_email(parse_email(ALICE))
    return dict(await sign_in(api.services, alice))


async def by_reauthentication(api: Client, password: str) -> httpx.Response:
    headers = await headers_of(api)
    return await api.post("/me/reauthenticate", json={"password": password}, headers=headers)


async def by_change_of_address(api: Client, password: str) -> httpx.Response:
    body = {"email": "alice@example.org", "current_password": password}
    return await api.post("/me/email", json=body, headers=await headers_of(api))


def code_of(document: dict[str, Any]) -> object:
    """Returns the code of the only error in a problem document."""
    [error] = document["errors"]
    return error["code"]


WAYS = (by_json, by_grant, by_basic, by_reauthentication, by_change_of_address)


async def every_form_works(api: Client) -> None:
    for password in FORMS:
        assert (await by_json(api, password)).status_code == 200


@pytest.mark.parametrize("way", WAYS)
async def test_each_encoding_authenticates(
    api: Client, way: Callable[[Client, str], Awaitable[httpx.Response]]
) -> None:
    await api.create_user(ALICE, password=DECOMPOSED)
    for password in FORMS:
        assert (await way(api, password)).is_success
    assert (await way(api, WRONG)).status_code in {400, 401, 403}


@pytest.mark.parametrize("chosen", FORMS)
async def test_registration_accepts_each_encoding(api: Client, chosen: str) -> None:
    body = {"email": ALICE, "password": chosen}
    assert (await api.post("/register", json=body)).status_code == 201
    await every_form_works(api)


@pytest.mark.parametrize("chosen", FORMS)
async def test_password_change_accepts_each_encoding(api: Client, chosen: str) -> None:
    await api.create_user(ALICE)
    body = {"current_password": PASSWORD, "new_password": chosen}
    headers = await headers_of(api)
    assert (await api.post("/me/password", json=body, headers=headers)).status_code == 204
    await every_form_works(api)
    headers = await headers_of(api)
    for same in FORMS:
        body = {"current_password": chosen, "new_password": same}
        answer = await api.post("/me/password", json=body, headers=headers)
        assert answer.json()["errors"][0]["code"] == "password_unchanged"
    body = {"current_password": DECOMPOSED, "new_password": OTHER}
    assert (await api.post("/me/password", json=body, headers=headers)).status_code == 204


@pytest.mark.parametrize("page", [False, True])
@pytest.mark.parametrize("chosen", FORMS)
async def test_password_reset_accepts_each_encoding(api: Client, chosen: str, page: bool) -> None:
    await api.create_user(ALICE)
    await api.post("/password/forgot", json={"email": ALICE})
    form = {"token": await secret_in(api.services, "reset", ALICE), "new_password": chosen}
    sent = {"data": form} if page else {"json": form}
    answer = await api.post("/account/reset" if page else "/password/reset", **sent)  # type: ignore[arg-type]
    assert answer.status_code == (303 if page else 204)
    await every_form_works(api)


@pytest.mark.parametrize("chosen", FORMS)
async def test_invitation_accepts_each_encoding(api: Client, chosen: str) -> None:
    await api.services.accounts.administration.invite(parse_email(ALICE), name=None, roles=())
    body = {"token": await secret_in(api.services, "invitation", ALICE), "password": chosen}
    assert (await api.post("/invitation/accept", json=body)).status_code == 204
    await every_form_works(api)


@pytest.mark.parametrize("page", [False, True])
async def test_email_confirmation_accepts_each_encoding(api: Client, page: bool) -> None:
    await api.create_user(ALICE, password=COMPOSED)
    await api.post("/email/confirm/request", json={"email": ALICE})
    form = {"token": await secret_in(api.services, "confirm", ALICE), "password": DECOMPOSED}
    sent = {"data": form} if page else {"json": form}
    answer = await api.post("/account/confirm" if page else "/email/confirm", **sent)  # type: ignore[arg-type]
    assert answer.status_code == (303 if page else 204)


async def test_password_rules_apply_to_the_normal_form(api: Client) -> None:
    short = unicodedata.normalize("NFD", "crème brûlée é")  # 14 characters
    assert len(short) > 15
    body = {"email": ALICE, "password": short}
    document = problem(await api.post("/register", json=body), 422, "validation_failed")
    assert code_of(document) == "password_too_short"
    longest = "".join(chr(0xAC00 + number * 7) for number in range(1024))
    body["password"] = unicodedata.normalize("NFD", longest)
    assert len(body["password"]) > 2048
    assert (await api.post("/register", json=body)).status_code == 201
    assert (await by_json(api, longest)).status_code == 200
    for way in (by_json, by_grant):  # the header limit applies to HTTP Basic first
        assert (await way(api, body["password"])).is_success
        assert not (await way(api, body["password"] + "x")).is_success


@pytest.mark.parametrize("character", ["\t", "\n", "\r", "\x1b", "\x7f", "\x85", "\u2028"])
async def test_control_characters_in_a_new_password_are_refused(
    api: Client, character: str
) -> None:
    password = f"by the sea,{character} by the blue sea"
    body = {"email": ALICE, "password": password}
    document = problem(await api.post("/register", json=body), 422, "validation_failed")
    assert code_of(document) == "password_control_character"
    assert password not in str(document)
