"""The passkey of the testing kit, as a login, a second factor and a step-up."""

import sys
from dataclasses import replace
from datetime import timedelta
from typing import Annotated
from uuid import UUID

import httpx
import pytest
import time_machine
from fastapi import Depends, FastAPI

from authapi import AuthAPI, User, create_app, current_user
from authapi.clock import now
from authapi.domain.events import EventType
from authapi.errors import FactorExists, NotFound, PasskeysUnavailable
from authapi.testing import Client, SoftPasskey, client, sync_client
from tests.conftest import SettingsFactory

STRATEGIES = ["session", "token", "jwt"]


async def amr(api: Client) -> list[str]:
    found: list[str] = (await api.get("/me/identity")).json()["amr"]
    return found


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_login_by_the_passkey_alone(api_on_each: Client, strategy: str) -> None:
    api = api_on_each
    alice, key = await api.create_user(), api.authenticator()
    assert not key.has_passkey
    enrolled = await key.enrol_passkey(alice, name="Laptop")
    assert (key.has_passkey, alice.mfa, enrolled.mfa) == (True, False, True)
    done = await api.login_by_passkey(key, strategy=strategy)
    assert done.json()["strategy"] == strategy
    assert await amr(api) == ["pop", "user", "mfa"]
    [found] = (await api.services.factors.changes.overview(alice)).passkeys
    assert found.name == "Laptop"
    events = await api.services.audit.page(alice.id, before=None, limit=9)
    [added] = [event for event in events if event.type is EventType.FACTOR_ADDED]
    assert added.detail == {"method": "passkey"}


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_the_passkey_after_a_password(api_on_each: Client, strategy: str) -> None:
    api = api_on_each
    alice, key = await api.create_user(), api.authenticator()
    alice = await key.enrol_passkey(alice)
    with pytest.raises(httpx.HTTPStatusError, match="401"):
        await api.login(alice, strategy=strategy)
    await api.login(alice, strategy=strategy, authenticator=key)
    assert await amr(api) == ["pwd", "pop", "mfa"]


async def test_an_account_with_an_app_and_a_passkey(api: Client) -> None:
    alice, both, key = await api.create_user(), api.authenticator(), api.authenticator()
    await both.enrol(alice)
    since = (await both.enrol_passkey(alice)).mfa_since
    assert (await key.enrol_passkey(alice)).mfa_since == since
    await api.login(alice, authenticator=both)
    assert await amr(api) == ["pwd", "otp", "mfa"]
    await api.login(alice, authenticator=key)
    assert await amr(api) == ["pwd", "pop", "mfa"]


async def test_the_app_and_the_passkey_over_http(make_settings: SettingsFactory) -> None:
    async with client(create_app(make_settings(mail_url="none:"))) as api:
        alice, key = await api.create_user(), api.authenticator()
        await api.login(alice)
        added = await api.add_passkey(key, name="Phone")
        assert (added.status_code, len(added.json()["recovery_codes"])) == (201, 10)
        with pytest.raises(ValueError, match="already"):
            await api.add_passkey(key)
        with time_machine.travel(now() + timedelta(minutes=10), tick=True):
            with pytest.raises(httpx.HTTPStatusError, match="401"):
                await api.add_passkey(api.authenticator())
            await api.step_up(key)
            await api.add_passkey(api.authenticator())
        await api.login_by_passkey(key)


async def test_a_step_up_by_a_code(api: Client) -> None:
    alice, app = await api.create_user(), api.authenticator()
    await api.login(alice)
    await app.enrol(alice)
    with pytest.raises(httpx.HTTPStatusError, match="403"):
        await api.step_up(api.authenticator())
    await api.step_up(app)
    assert await amr(api) == ["pwd", "otp", "mfa"]


def test_the_synchronous_client_below_a_prefix(make_settings: SettingsFactory) -> None:
    auth = AuthAPI(make_settings(mail_url="none:"))
    app = FastAPI(lifespan=auth.lifespan)
    auth.install(app, prefix="/auth")

    @app.get("/resistant")
    def resistant(user: Annotated[User, Depends(current_user(acr="phr"))]) -> str:
        return user.email

    with sync_client(app) as api:
        alice, key = api.create_user(), api.authenticator()
        api.login(alice)
        assert api.get("/resistant").status_code == 401
        alice = key.enrol_passkey(alice)
        assert key.has_passkey
        assert not api.authenticator().has_passkey
        api.step_up(key)
        assert api.get("/resistant").json() == alice.email
        other = api.authenticator()
        api.add_passkey(other)
        assert other.passkey.id != key.passkey.id
        api.cookies.clear()
        api.login_by_passkey(other)
        assert api.get("/resistant").json() == alice.email
        api.cookies.clear()
        api.login(alice, authenticator=other)
        assert api.get("/resistant").json() == alice.email


async def test_an_account_has_a_passkey_once(api: Client) -> None:
    alice, key = await api.create_user(), api.authenticator()
    await key.enrol_passkey(alice)
    with pytest.raises(FactorExists):
        await key.enrol_passkey(alice)
    with pytest.raises(NotFound):
        await api.authenticator().enrol_passkey(replace(alice, id=UUID(int=1)))
    stranger = api.authenticator()
    with pytest.raises(httpx.HTTPStatusError, match="401"):
        await api.login_by_passkey(stranger)


async def test_the_origin_is_that_of_the_settings(make_settings: SettingsFactory) -> None:
    settings = make_settings(
        public_url="https://shop.example.com", passkey_rp_id="example.com", mail_url="none:"
    )
    async with client(create_app(settings), base_url="https://shop.example.com") as api:
        alice, key = await api.create_user(), api.authenticator()
        assert key.passkey.origin == "https://shop.example.com"
        await key.enrol_passkey(alice)
        await api.login_by_passkey(key)
        assert await amr(api) == ["pop", "user", "mfa"]
        key.passkey.origin = "https://evil.example"
        with pytest.raises(httpx.HTTPStatusError, match="401"):
            await api.login_by_passkey(key)


async def test_installations_without_passkeys_say_why(make_settings: SettingsFactory) -> None:
    for changes in ({"passkeys": "off"}, {"public_url": "http://192.0.2.1:8000"}):
        async with client(create_app(make_settings(**changes))) as api:
            alice, key = await api.create_user(), api.authenticator()
            with pytest.raises(PasskeysUnavailable):
                await key.enrol_passkey(alice)
            await api.login(await key.enrol(alice), authenticator=key)


def test_without_the_extra_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cbor2", None)
    with pytest.raises(RuntimeError, match=r"pip install 'fastapi-authapi\[passkeys\]'"):
        _ = SoftPasskey().public_key


def test_options_for_other_authenticators_are_refused() -> None:
    passkey = SoftPasskey()
    with pytest.raises(ValueError, match="does not have"):
        passkey.get({"allowCredentials": [{"id": "AAAA"}]})
    with pytest.raises(ValueError, match="algorithm"):
        passkey.create({"pubKeyCredParams": [{"alg": -8}]})
