"""Each place that verifies a passkey counts and records a refusal, on both databases."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import httpx
import pytest

from authapi import create_app
from authapi.domain.events import EventType
from authapi.domain.user import User
from authapi.testing import PASSWORD, Client, client
from tests.conftest import SettingsFactory
from tests.second_factors import insert_passkey
from tests.soft_authenticator import SoftAuthenticator
from tests.web.logins import sign_in
from tests.web.passkeys import log_in, options
from tests.web.responses import problem

EVIL = "https://evil.example"


async def begin(api: Client) -> httpx.Response:
    body = {"email": "alice@example.com", "password": PASSWORD, "strategy": "token"}
    return await api.post("/login", json=body)


async def by_login(api: Client, alice: User, passkey: SoftAuthenticator) -> httpx.Response:
    return await log_in(api, passkey)


async def by_second_factor(api: Client, alice: User, passkey: SoftAuthenticator) -> httpx.Response:
    ticket = {"ticket": (await begin(api)).json()["ticket"]}
    asked = await options(api, "/login/second-factor/options", {}, **ticket)
    return await api.post("/login/second-factor", json={**ticket, "passkey": passkey.get(asked)})


async def by_step_up(api: Client, alice: User, passkey: SoftAuthenticator) -> httpx.Response:
    headers = await sign_in(api.services, alice)
    asked = await options(api, "/me/reauthenticate/options", headers)
    body = {"passkey": passkey.get(asked)}
    return await api.post("/me/reauthenticate", json=body, headers=headers)


Proof = Callable[[Client, User, SoftAuthenticator], Awaitable[httpx.Response]]
PROOFS: Mapping[str, tuple[Proof, int, str, EventType | None]] = {
    "login": (by_login, 401, "passkey_refused", None),
    "second factor": (
        by_second_factor,
        401,
        "second_factor_refused",
        EventType.SECOND_FACTOR_REFUSED,
    ),
    "step-up": (by_step_up, 403, "wrong_passkey", EventType.REAUTHENTICATION_REFUSED),
}
"""Each place, its refusal, and the event that it has for codes and passkeys alike."""


def of_another_page(passkey: SoftAuthenticator) -> None:
    passkey.origin = EVIL


def copied(passkey: SoftAuthenticator) -> None:
    passkey.sign_count = 0


def of_another_account(passkey: SoftAuthenticator) -> None:
    passkey.handle = b"another account"


def forged(passkey: SoftAuthenticator) -> None:
    passkey.key = SoftAuthenticator().key


REASONS: Mapping[str | None, Callable[[SoftAuthenticator], None]] = {
    "origin": of_another_page,
    "counter": copied,
    "user": of_another_account,
    None: forged,
}


async def recorded(api: Client, user: User, kind: EventType) -> list[dict[str, Any]]:
    events = await api.services.audit.page(user.id, before=None, limit=20)
    return [dict(event.detail) for event in events if event.type is kind]


@pytest.mark.parametrize("reason", REASONS, ids=str)
@pytest.mark.parametrize("place", PROOFS)
async def test_a_refused_proof_is_recorded(
    api_on_each: Client, place: str, reason: str | None
) -> None:
    api, (prove, status, code, further) = api_on_each, PROOFS[place]
    passkey = SoftAuthenticator(counts=True, sign_count=7)
    alice = await api.create_user("alice@example.com")
    await insert_passkey(api.services, alice, passkey)
    REASONS[reason](passkey)
    problem(await prove(api, alice, passkey), status, code)
    expected = {} if reason is None else {"reason": reason}
    assert await recorded(api, alice, EventType.PASSKEY_REFUSED) == [expected]
    if further is not None:
        assert len(await recorded(api, alice, further)) == 1


async def test_codes_and_passkeys_are_counted_together(api_on_each: Client) -> None:
    """A login allows five attempts of any kind."""
    api, passkey = api_on_each, SoftAuthenticator()
    alice = await api.create_user("alice@example.com")
    app = api.authenticator()
    await app.enrol(alice)
    await insert_passkey(api.services, alice, passkey)
    ticket = {"ticket": (await begin(api)).json()["ticket"]}
    asked = await options(api, "/login/second-factor/options", {}, **ticket)
    passkey.origin = EVIL
    wrong: list[dict[str, Any]] = [
        {"passkey": passkey.get(asked)},
        {"code": "12345x"},
        {"recovery_code": "wrong"},
        {"passkey": passkey.get(asked)},
        {"code": "12345x"},
    ]
    for left, proof in zip((4, 3, 2, 1, 0), wrong, strict=True):
        refused = await api.post("/login/second-factor", json={**ticket, **proof})
        assert problem(refused, 401, "second_factor_refused")["attempts_left"] == left
    passkey.origin = SoftAuthenticator().origin
    for proof in ({"passkey": passkey.get(asked)}, {"code": app.code()}):
        refused = await api.post("/login/second-factor", json={**ticket, **proof})
        problem(refused, 401, "login_expired")
    assert len(await recorded(api, alice, EventType.SECOND_FACTOR_REFUSED)) == 5


@pytest.mark.parametrize("place", ["session", "login"])
async def test_a_refused_registration_is_recorded(
    make_settings: SettingsFactory, place: str
) -> None:
    mfa = "required" if place == "login" else "optional"
    async with client(create_app(make_settings(mfa=mfa, mail_url="none:"))) as api:
        alice = await api.create_user("alice@example.com")
        if place == "login":
            path, headers = "/login/enrolment/passkey", {}
            login = {"ticket": (await begin(api)).json()["ticket"]}
        else:
            path, headers = "/me/factors/passkeys", await sign_in(api.services, alice)
            login = {}
        asked = await options(api, f"{path}/options", headers, **login)
        for passkey, expected in (
            (SoftAuthenticator(origin=EVIL), {"reason": "origin"}),
            (SoftAuthenticator(rp_id="evil.example"), {}),
        ):
            body = {**login, "credential": passkey.create(asked), "name": "x"}
            problem(await api.post(path, json=body, headers=headers), 403, "wrong_passkey")
            assert (await recorded(api, alice, EventType.PASSKEY_REFUSED))[0] == expected
