"""Example accounts are written at once, into an empty database, and look as if made over time."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pyotp
import pytest

from authapi.clock import now
from authapi.domain.email_address import stored_email
from authapi.domain.events import EventFilter
from authapi.errors import ConfigurationError
from authapi.services import Services
from authapi.services.demo.writer import DemoAccount, DemoData
from authapi.services.logins.complete import PendingLogin
from authapi.testing import Client
from tests.tables import users

PASSWORD = "correct horse battery staple"


async def fill(services: Services) -> dict[str, DemoAccount]:
    return {account.user.email: account for account in await DemoData(services).fill(PASSWORD)}


async def test_each_account_logs_in_as_its_state_says(api_on_each: Client) -> None:
    api = api_on_each
    accounts = await fill(api.services)
    for email, account in accounts.items():
        answer = await api.post("/login", json={"email": email, "password": PASSWORD})
        if account.user.mfa:
            assert answer.json()["code"] == "second_factor_required", email
        else:
            logs_in = account.user.is_active and account.has_password
            assert answer.status_code == (200 if logs_in else 401), email


async def test_the_printed_secret_shows_codes_that_are_accepted(api_on_each: Client) -> None:
    services = api_on_each.services
    account = (await fill(services))["mina.park@example.com"]
    assert account.app_secret is not None
    proved = await services.accounts.authentication.authenticate(
        stored_email(account.user.email), PASSWORD, may_continue=True
    )
    pending = await services.logins.complete(proved, strategy="token", remember=False)
    assert isinstance(pending, PendingLogin)
    code = pyotp.TOTP(account.app_secret).at(now())
    done = await services.logins.prove_second_factor(ticket=pending.ticket, code=code)
    assert done.login.user.id == account.user.id


async def test_sessions_and_events_lie_in_the_past_and_are_alive(api_on_each: Client) -> None:
    services, at = api_on_each.services, now()
    accounts = await fill(services)
    for account in accounts.values():
        for session in await services.sessions.list_for_user(account.user.id):
            assert session.created_at < session.expires_at
            assert session.created_at <= session.last_seen_at < at
    page = await services.audit.search(EventFilter(), before=None, limit=1000)
    assert [event.id for event in page] == sorted((event.id for event in page), reverse=True)
    assert page[-1].at < at - timedelta(days=300)
    assert await services.sessions.prune() == 0


async def test_of_two_at_once_one_fills_the_database(api_on_each: Client) -> None:
    outcomes = await asyncio.gather(
        *(fill(api_on_each.services) for _ in range(2)), return_exceptions=True
    )
    assert {type(outcome) for outcome in outcomes} == {ConfigurationError, dict}
    async with api_on_each.services.database.read() as store:
        rows = (await store.connection.execute(users.select())).all()
    assert len(rows) == 10


async def test_production_is_refused(api: Client) -> None:
    settings = api.services.settings.model_copy(update={"env": "production"})
    with pytest.raises(ConfigurationError, match="for development"):
        await DemoData(replace(api.services, settings=settings)).fill(PASSWORD)
