"""The order of locks, recorded on PostgreSQL for every function that opens a transaction."""

from collections.abc import AsyncIterator
from uuid import UUID

import pytest

from authapi.domain.email_address import parse_email
from authapi.storage.tables.users import UserTable
from authapi.testing import PASSWORD
from tests.services.locks import ORDER, OWNED, Lock, Recorder, Trace, transaction_functions
from tests.services.operations import (
    EXCLUSIVE_OPERATIONS,
    OPERATIONS,
    Harness,
    make_everything_due,
    open_harness,
)
from tests.tables import PREFIX, metadata


@pytest.fixture
async def harness(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Harness]:
    make_everything_due(monkeypatch)
    async with open_harness(postgres_url) as found:
        yield found


@pytest.mark.slow
async def test_every_transaction_takes_its_locks_in_one_order(harness: Harness) -> None:
    recorder, database = Recorder(), harness.services.database
    with recorder.recording(database):
        for name, operation in {**OPERATIONS, **EXCLUSIVE_OPERATIONS}.items():
            one, two = await harness.person(), await harness.person()
            await operation(harness, one, two)
            assert recorder.traces, name
        newcomer = await harness.person(confirmed=False)
        await OPERATIONS["register a taken address"](harness, newcomer, newcomer)
        await harness.services.keys.lifecycle.retire_all()
        await harness.services.keys.lifecycle.ensure()
        await harness.services.accounts.authentication.authenticate(
            parse_email(newcomer.user.email), PASSWORD
        )
    assert recorder.violations() == []
    assert transaction_functions() - recorder.callers == set(), (
        "not recorded: add it to the operations"
    )
    assert recorder.callers - transaction_functions() == set()


async def test_accounts_are_deleted_in_the_same_order_when_events_are_erased(
    postgres_url: str,
) -> None:
    recorder = Recorder()
    async with open_harness(postgres_url, deleted_events="erase") as harness:
        one, two = await harness.person(), await harness.person()
        with recorder.recording(harness.services.database):
            await OPERATIONS["delete another"](harness, one, two)
    assert recorder.violations() == []
    assert {lock.table for trace in recorder.traces for lock in trace.locks} >= {
        *("advisory", "users", "sessions", "refresh_families", "outbox", "events")
    }


async def test_the_rows_of_one_insert_are_each_checked(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder()

    async def without_locks(*_: object) -> None:
        return None

    monkeypatch.setattr(UserTable, "lock_addresses", without_locks)
    async with open_harness(postgres_url) as harness:
        one, two = await harness.person(), await harness.person()
        with recorder.recording(harness.services.database):
            await OPERATIONS["import"](harness, one, two)
    [trace] = [it for it in recorder.traces if it.caller.endswith("AccountImporter._add")]
    assert trace.problems == ["assigns an address without its advisory lock"] * 4
    assert len([key for table, key in trace.own if table == "users"]) == 4
    assert all(isinstance(key, UUID) for table, key in trace.own if table == "users")


def test_the_order_contains_every_table() -> None:
    tables = {name.removeprefix(PREFIX) for name in metadata.tables}
    assert {*ORDER, *OWNED} == {"advisory", *tables}


@pytest.mark.parametrize(
    "locks",
    [
        [Lock("sessions", 1, 9), Lock("users", 9)],
        [Lock("users", 2), Lock("users", 1)],
        [Lock("sessions", 1, 8), Lock("sessions", 2, 9)],
        [Lock("users", 8), Lock("sessions", 1, 8), Lock("sessions", 2, 9)],
        [Lock("email_tokens", 1, 9)],
        [Lock("refresh_families", 1, 1)],
        [Lock("users", 1), Lock("advisory", "address a")],
        [Lock("advisory", "address b"), Lock("advisory", "address a")],
        [Lock("events", 1), Lock("outbox", 1)],
    ],
)
def test_violations_of_the_order_are_found(locks: list[Lock]) -> None:
    trace = Trace("x")
    for lock in locks:
        trace.take(lock)
    assert trace.violations()
