"""`authapi doctor` on second factors: the policy, the rows, and the clock."""

import asyncio
from datetime import timedelta

import pytest
import time_machine

from authapi import Settings
from authapi.clock import now
from authapi.diagnostics.second_factors import check_accounts, check_policy
from authapi.domain.email_address import parse_email
from authapi.domain.monitoring.findings import Finding
from authapi.services import Services
from tests.conftest import SettingsFactory
from tests.storage.rows import sql


async def findings(url: str) -> list[Finding]:
    services = Services.build(Settings(database_url=url))  # type: ignore[arg-type]  # pydantic parses it
    try:
        return await check_accounts(services)
    finally:
        await services.stop()


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({}, None),
        ({"mfa": "required"}, None),
        ({"mfa": "required", "password_min_length": 8}, None),
        ({"password_min_length": 8}, "passwords of 8 characters"),
        ({"password_min_length": 14, "mfa": "off"}, "passwords of 14 characters"),
        ({"strategies": ("session", "basic")}, None),
        ({"strategies": ("session", "basic"), "mfa": "required"}, "basic refuses every account"),
    ],
)
def test_weak_policies_are_found(
    make_settings: SettingsFactory, changes: dict[str, object], part: str | None
) -> None:
    [found] = check_policy(make_settings(**changes))
    assert found.check == "second factors"
    assert found.verdict == ("ok" if part is None else "warning")
    assert (part or "AUTHAPI_MFA is") in found.message


def test_a_production_without_second_factors_of_superusers_is_found(
    make_settings: SettingsFactory,
) -> None:
    production = {
        "env": "production",
        "secret": "3f9a1c7e5b2d8f604a6c8e0b1d3f5a7c",
        "public_url": "https://auth.example.com",
        "allow_sqlite": True,
    }
    [found] = check_policy(make_settings(**production))
    assert found.verdict == "warning"
    assert "AUTHAPI_MFA_REQUIRED_SUPERUSERS=true" in found.message
    for stronger in ({"mfa_required_superusers": True}, {"mfa": "required"}):
        [found] = check_policy(make_settings(**production, **stronger))
        assert found.verdict == "ok"


async def test_accounts_whose_factors_do_not_match_are_found(database_url: str) -> None:
    clock = [] if database_url.startswith("sqlite") else ["clock"]
    assert [item.check for item in await findings(database_url)] == clock
    services = Services.build(Settings(database_url=database_url))  # type: ignore[arg-type]  # pydantic parses it
    try:
        await services.open()
        user = await services.accounts.registration.create(parse_email("a@example.com"), None)
    finally:
        await services.stop()
    await asyncio.to_thread(sql, database_url, "UPDATE authapi_users SET mfa_since = created_at")
    found = (await findings(database_url))[0]
    assert (found.check, found.verdict) == ("second factors", "error")
    assert found.message.startswith("1 account with a second factor")
    assert found.message.endswith(f"authapi users reset-factors {user.id}")


@pytest.mark.parametrize(
    ("seconds", "verdict", "text"),
    [
        (0, "ok", "as that of the database"),
        (15, "warning", "ahead of that of the database"),
        (-15, "warning", "behind that of the database"),
        (60, "error", "ahead of that of the database"),
        (-60, "error", "behind that of the database"),
    ],
)
async def test_clocks_apart_are_found(
    postgres_url: str, seconds: int, verdict: str, text: str
) -> None:
    with time_machine.travel(now() + timedelta(seconds=seconds)):
        [found] = await findings(postgres_url)
    assert (found.check, found.verdict) == ("clock", verdict)
    assert text in found.message
