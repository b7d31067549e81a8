"""Fifty requests at once with one challenge, and a passkey that is removed in between."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import httpx
import pytest

from authapi import create_app
from authapi.crypto.factors import webauthn
from authapi.domain.user import User
from authapi.services.logins.passkeys import PasskeyLogins
from authapi.services.logins.proved import Proved
from authapi.testing import Client, client
from tests.conftest import SettingsFactory
from tests.soft_authenticator import PRESENT, VERIFIED, SoftAuthenticator
from tests.web.logins import Headers
from tests.web.passkeys import add_passkey, options
from tests.web.responses import problem

PARALLEL = 50


@pytest.fixture
async def api(patient_settings: SettingsFactory) -> AsyncIterator[Client]:
    async with client(create_app(patient_settings())) as found:
        yield found


async def sessions(api: Client, user: User) -> int:
    return len(await api.services.sessions.list_for_user(user.id))


def outcomes(answers: list[httpx.Response]) -> Counter[int]:
    return Counter(answer.status_code for answer in answers)


@pytest.mark.parametrize("counts", [False, True])
async def test_one_challenge_begins_one_session(api: Client, counts: bool) -> None:
    flags = PRESENT | VERIFIED
    passkey = SoftAuthenticator(counts=counts, flags=flags)
    alice = await api.create_user()
    await add_passkey(api, alice, passkey)
    before = await sessions(api, alice)
    asked = await options(api, "/login/passkey/options", {})
    headers = {"cookie": f"authapi-login={api.cookies['authapi-login']}"}
    api.cookies.clear()
    bodies = [{"credential": passkey.get(asked), "strategy": "token"} for _ in range(PARALLEL)]
    calls = (api.post("/login/passkey", json=body, headers=headers) for body in bodies)
    answers = list(await asyncio.gather(*calls))
    assert outcomes(answers) == {200: 1, 401: PARALLEL - 1}
    assert await sessions(api, alice) == before + 1


async def test_one_registration_adds_one_passkey(api: Client) -> None:
    alice = await api.create_user()
    _, headers = await add_passkey(api, alice, SoftAuthenticator(), "jwt")
    asked = await options(api, "/me/factors/passkeys/options", headers)
    bodies = [
        {"credential": SoftAuthenticator().create(asked), "name": f"{number}"}
        for number in range(10)
    ]
    calls = (api.post("/me/factors/passkeys", json=body, headers=headers) for body in bodies)
    answers = list(await asyncio.gather(*calls))
    # The others find the challenge used, or their login proved again meanwhile.
    assert [answer.status_code for answer in answers].count(201) == 1
    assert {answer.status_code for answer in answers} <= {201, 401, 403}
    async with api.services.database.read() as store:
        assert await store.passkeys.count(alice.id) == 2


async def remove(api: Client, passkey_id: str, headers: Headers) -> None:
    answer = await api.delete(f"/me/factors/passkeys/{passkey_id}", headers=headers)
    assert answer.status_code == 204


async def test_a_passkey_removed_between_proof_and_session_begins_none(
    api: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, removed = SoftAuthenticator(), SoftAuthenticator()
    alice = await api.create_user()
    added, headers = await add_passkey(api, alice, removed, "jwt")
    asked = await options(api, "/me/factors/passkeys/options", headers)
    body = {"credential": kept.create(asked), "name": "x"}
    assert (await api.post("/me/factors/passkeys", json=body, headers=headers)).status_code == 201
    before = await sessions(api, alice)
    original = PasskeyLogins.authenticate

    async def authenticate(this: PasskeyLogins, *args: object, **named: object) -> Proved:
        proved = await original(this, *args, **named)  # type: ignore[arg-type]  # passed on
        await remove(api, added["passkey"]["id"], headers)
        return proved

    monkeypatch.setattr(PasskeyLogins, "authenticate", authenticate)
    asked = await options(api, "/login/passkey/options", {})
    login = {"credential": removed.get(asked), "strategy": "token"}
    refused = await api.post("/login/passkey", json=login)
    problem(refused, 401, "invalid_credentials")  # the credentials have changed since the proof
    assert await sessions(api, alice) == before


async def test_a_passkey_removed_during_its_verification_begins_no_session(
    api: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    passkey = SoftAuthenticator()
    alice = await api.create_user()
    await add_passkey(api, alice, passkey, "jwt")
    before = await sessions(api, alice)
    loop = asyncio.get_running_loop()
    original = webauthn.verify_assertion

    async def lose() -> None:
        async with api.services.database.transaction() as store:
            await store.users.lock(alice.id)
            await store.passkeys.remove_all(alice.id)

    def verify(*args: object, **named: object) -> object:
        asyncio.run_coroutine_threadsafe(lose(), loop).result()
        return original(*args, **named)  # type: ignore[arg-type]  # passed on

    monkeypatch.setattr("authapi.services.factors.webauthn.assertions.verify_assertion", verify)
    asked = await options(api, "/login/passkey/options", {})
    login = {"credential": passkey.get(asked), "strategy": "token"}
    problem(await api.post("/login/passkey", json=login), 401, "passkey_refused")
    assert await sessions(api, alice) == before
