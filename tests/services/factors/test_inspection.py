"""What `doctor` finds wrong with second factors, on both databases."""

from datetime import timedelta

import time_machine

from authapi.clock import now
from authapi.services.factors.inspection import clock_difference, find_out_of_step
from tests.second_factors import insert_passkey
from tests.services.authenticators import add_authenticator
from tests.services.operations import Harness
from tests.soft_authenticator import SoftAuthenticator


async def test_factors_and_the_flag_of_the_account_match(harness: Harness) -> None:
    services = harness.services
    plain, enrolling, enrolled = [await harness.person() for _ in range(3)]
    await services.factors.totp.begin(enrolling.caller)
    await add_authenticator(services, enrolled.caller)
    assert await find_out_of_step(services.database, limit=9) == []
    async with services.database.transaction() as store:
        await store.users.lock_all({plain.id, enrolling.id, enrolled.id})
        await store.users.set_mfa(enrolling.id, now(), at=now())
        await store.users.set_mfa(enrolled.id, None, at=now())
    found = await find_out_of_step(services.database, limit=9)
    assert found == sorted([enrolling.id, enrolled.id])
    assert await find_out_of_step(services.database, limit=1) == found[:1]


async def test_a_passkey_is_a_factor(harness: Harness) -> None:
    services, owner = harness.services, await harness.person()
    await insert_passkey(services, owner.user, SoftAuthenticator())
    async with services.database.transaction() as store:
        await store.users.lock(owner.id)
        await store.users.set_mfa(owner.id, now(), at=now())
    assert await find_out_of_step(services.database, limit=9) == []


async def test_the_clock_is_compared_with_that_of_a_database_server(harness: Harness) -> None:
    database = harness.services.database
    if database.engine.dialect.name == "sqlite":
        assert await clock_difference(database) is None
        return
    for seconds in (0, 90, -90):
        with time_machine.travel(now() + timedelta(seconds=seconds)):
            found = await clock_difference(database)
        assert found is not None
        assert abs(found - timedelta(seconds=seconds)) < timedelta(seconds=5)
