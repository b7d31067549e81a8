"""The authenticator app of the testing kit, with the login that asks for it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Annotated
from uuid import UUID

import httpx
import pyotp
import pytest
import time_machine
from fastapi import Depends, FastAPI

from authapi import AuthAPI, Identity, User, current_identity, current_user
from authapi.errors import FactorExists, NotFound
from authapi.testing import Client, acting_as, client, sync_client
from authapi.verify import RemoteJWT, ResourceServer
from tests.conftest import SettingsFactory

START = datetime(2031, 1, 1, tzinfo=UTC)


def application(make_settings: SettingsFactory) -> FastAPI:
    auth = AuthAPI(make_settings())
    app = FastAPI(lifespan=auth.lifespan)
    auth.install(app, prefix="/auth")

    @app.get("/amr")
    async def amr(caller: Annotated[Identity, Depends(current_identity(mfa=True))]) -> list[str]:
        return list(caller.amr)

    @app.get("/enrolled")
    def enrolled(user: Annotated[User, Depends(current_user(mfa="enrolled"))]) -> bool:
        return user.mfa

    return app


def test_codes_are_those_of_another_implementation(make_settings: SettingsFactory) -> None:
    with time_machine.travel(START, tick=False) as clock:
        api = Client(application(make_settings), base_url="http://127.0.0.1:8000")
        app = api.authenticator()
        other = pyotp.TOTP(app.secret)
        assert app.code() == other.at(START)
        assert app.code() == other.at(START + timedelta(seconds=30)), "a code is shown once"
        with pytest.raises(RuntimeError, match="let the clock advance"):
            app.code()
        clock.shift(30)
        assert app.code() == other.at(START + timedelta(seconds=60))
        with pytest.raises(RuntimeError):
            app.code()
        clock.shift(3600)
        assert app.code() == other.now()
        assert api.authenticator(app.secret).code() == other.now()
        assert api.authenticator().secret != app.secret


@pytest.mark.parametrize("strategy", ["session", "token", "jwt"])
async def test_login_with_two_factors(api_on_each: Client, strategy: str) -> None:
    api = api_on_each
    alice = await api.create_user()
    app = api.authenticator()
    enrolled = await app.enrol(alice)
    assert (alice.mfa, enrolled.mfa, enrolled.id) == (False, True, alice.id)
    with pytest.raises(httpx.HTTPStatusError, match="401"):
        await api.login(enrolled, strategy=strategy)
    with pytest.raises(httpx.HTTPStatusError, match="401"):
        await api.login(enrolled, strategy=strategy, authenticator=api.authenticator())
    await api.login(enrolled, strategy=strategy, authenticator=app)
    assert (await api.get("/me/identity")).json()["amr"] == ["pwd", "otp", "mfa"]


async def test_login_of_an_account_without_a_factor_ignores_the_app(api: Client) -> None:
    await api.login(await api.create_user(), authenticator=api.authenticator())
    assert (await api.get("/me/identity")).json()["amr"] == ["pwd"]
    with pytest.raises(httpx.HTTPStatusError, match="401"):
        await api.login(await api.create_user(), password="x", authenticator=api.authenticator())


async def test_an_account_has_one_app(api: Client) -> None:
    alice = await api.create_user()
    await api.authenticator().enrol(alice)
    with pytest.raises(FactorExists):
        await api.authenticator().enrol(alice)
    with pytest.raises(NotFound):
        await api.authenticator().enrol(replace(alice, id=UUID(int=1)))


def test_the_synchronous_client_below_a_prefix(make_settings: SettingsFactory) -> None:
    with sync_client(application(make_settings)) as api:
        alice = api.create_user()
        api.login(alice)
        assert api.get("/enrolled").json() is False
        app = api.authenticator()
        alice = app.enrol(alice)
        # The session that began before has proved one factor.
        assert api.get("/enrolled").json()["code"] == "insufficient_authentication"
        api.login(alice, authenticator=app)
        assert api.get("/amr").json() == ["pwd", "otp", "mfa"]
        assert api.authenticator(app.secret).secret == app.secret
        assert len(app.code()) == 6
        with acting_as(alice):
            assert api.get("/enrolled").json()["code"] == "insufficient_authentication"
        with acting_as(alice, mfa=True):
            assert api.get("/enrolled").json() is True


async def test_a_resource_server_has_no_accounts() -> None:
    auth = ResourceServer(RemoteJWT("http://127.0.0.1:1", "orders"))
    app = FastAPI(lifespan=auth.lifespan)
    auth.install(app)
    async with client(app) as api:
        with pytest.raises(RuntimeError, match="resource server"):
            await api.authenticator().enrol(await api.create_user())
