"""Owners who must have a second factor replace their app, over HTTP on both databases."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pyotp
import pytest
from pydantic import SecretStr

from authapi import Settings, create_app
from authapi.clock import now
from authapi.domain.user import User
from authapi.testing import PASSWORD, Client, client
from tests.soft_authenticator import SoftAuthenticator
from tests.web.passkeys import options
from tests.web.responses import problem

POLICIES: Mapping[str, Mapping[str, Any]] = {
    "every account": {"mfa": "required"},
    "a role": {
        "scopes": {"reports:read": "Read"},
        "roles": {"reader": frozenset({"reports:read"})},
        "default_roles": ("reader",),
        "mfa_required_roles": ("reader",),
    },
    "superusers": {"mfa_required_superusers": True},
}


@asynccontextmanager
async def opened(url: str, policy: str) -> AsyncIterator[tuple[Client, User]]:
    """An application that requires a second factor of Alice."""
    settings = Settings(
        **{"database_url": url, "mail_url": SecretStr("none:"), **POLICIES[policy]},
    )
    async with client(create_app(settings)) as api:
        yield api, await api.create_user("alice@example.com", is_superuser=policy == "superusers")


async def enrol_at_login(api: Client) -> tuple[pyotp.TOTP, list[str]]:
    """Logs in, which adds the first app; the app and the recovery codes."""
    body = {"email": "alice@example.com", "password": PASSWORD}
    assert (await api.post("/login", json=body)).json()["code"] == "enrolment_required"
    app = pyotp.TOTP((await api.post("/login/enrolment/totp", json={})).json()["secret"])
    done = await api.post("/login/enrolment/totp/confirm", json={"code": app.at(now())})
    assert done.status_code == 200
    return app, done.json()["recovery_codes"]


async def log_in(api: Client, **proof: str) -> httpx.Response:
    body = {"email": "alice@example.com", "password": PASSWORD}
    assert (await api.post("/login", json=body)).json()["code"] == "second_factor_required"
    return await api.post("/login/second-factor", json=proof)


async def replace(api: Client) -> pyotp.TOTP:
    """Replaces the app of the caller, by a passkey in between; the new app."""
    problem(await api.delete("/me/factors/totp"), 409, "last_factor")
    problem(await api.post("/me/factors/totp"), 409, "factor_exists")
    created = SoftAuthenticator().create(await options(api, "/me/factors/passkeys/options", {}))
    added = await api.post("/me/factors/passkeys", json={"credential": created, "name": "x"})
    assert added.status_code == 201
    assert (await api.delete("/me/factors/totp")).status_code == 204
    path = f"/me/factors/passkeys/{added.json()['passkey']['id']}"
    problem(await api.delete(path), 409, "last_factor")
    app = pyotp.TOTP((await api.post("/me/factors/totp")).json()["secret"])
    confirmed = await api.post("/me/factors/totp/confirm", json={"code": app.at(now())})
    # The account had a factor at each time, so its recovery codes stay.
    assert (confirmed.status_code, confirmed.json()) == (200, {})
    assert (await api.delete(path)).status_code == 204
    return app


@pytest.mark.parametrize("policy", POLICIES)
async def test_the_owner_replaces_the_app_by_a_passkey_in_between(
    database_url: str, policy: str
) -> None:
    async with opened(database_url, policy) as (api, _alice):
        old, _codes = await enrol_at_login(api)
        new = await replace(api)
        shown = (await api.get("/me/factors")).json()
        assert (shown["mfa"], shown["required"], shown["passkeys"]) == (True, True, [])
        assert shown["recovery_codes"]["left"] == 10
        refused = await log_in(api, code=old.at(now(), counter_offset=1))
        problem(refused, 401, "second_factor_refused")
        assert (await log_in(api, code=new.at(now(), counter_offset=1))).status_code == 200


async def test_the_owner_of_a_lost_phone_replaces_the_app_by_a_recovery_code(
    database_url: str,
) -> None:
    async with opened(database_url, "every account") as (api, _alice):
        _lost, codes = await enrol_at_login(api)
        assert (await log_in(api, recovery_code=codes[0])).status_code == 200
        new = await replace(api)
        assert (await log_in(api, code=new.at(now(), counter_offset=1))).status_code == 200
        assert (await api.get("/me/factors")).json()["recovery_codes"]["left"] == 9
