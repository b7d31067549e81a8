"""One order of locks: recorded on PostgreSQL for every function that opens a transaction."""

from collections.abc import AsyncIterator

import pytest

from authapi.services.addresses import parse_email
from authapi.storage.models import metadata
from authapi.testing import PASSWORD
from tests.services.deeds import ALONE, DEEDS, House, house_at, make_everything_due
from tests.services.locks import ORDER, OWNED, Lock, Recorder, Trace, openers


@pytest.fixture
async def house(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    make_everything_due(monkeypatch)
    async with house_at(postgres_url) as found:
        yield found


@pytest.mark.slow
async def test_every_transaction_takes_its_locks_in_one_order(house: House) -> None:
    recorder, database = Recorder(), house.services.database
    with recorder.recording(database):
        for name, deed in {**DEEDS, **ALONE}.items():
            one, two = await house.person(), await house.person()
            await deed(house, one, two)
            assert recorder.traces, name
        stranger = await house.person(confirmed=False)
        await DEEDS["register what is taken"](house, stranger, stranger)
        await house.services.keys.lifecycle.discard()
        await house.services.keys.lifecycle.ensure()
        await house.services.accounts.prove(parse_email(stranger.user.email), PASSWORD)
    assert recorder.faults() == []
    assert openers() - recorder.callers == set(), "not recorded: add it to the deeds"
    assert recorder.callers - openers() == set()


async def test_accounts_are_deleted_in_the_same_order_when_events_are_erased(
    postgres_url: str,
) -> None:
    recorder = Recorder()
    async with house_at(postgres_url, deleted_events="erase") as house:
        one, two = await house.person(), await house.person()
        with recorder.recording(house.services.database):
            await DEEDS["delete another"](house, one, two)
    assert recorder.faults() == []
    assert {lock.table for trace in recorder.traces for lock in trace.locks} >= {
        *("turns", "users", "sessions", "refresh_families", "outbox", "events")
    }


def test_the_order_names_every_table() -> None:
    assert {*ORDER, *OWNED} == {"turns", *metadata.tables}


@pytest.mark.parametrize(
    "locks",
    [
        [Lock("sessions", 1, 9), Lock("users", 9)],
        [Lock("users", 2), Lock("users", 1)],
        [Lock("sessions", 1, 8), Lock("sessions", 2, 9)],
        [Lock("users", 8), Lock("sessions", 1, 8), Lock("sessions", 2, 9)],
        [Lock("one_time_secrets", 1, 9)],
        [Lock("refresh_families", 1, 1)],
        [Lock("users", 1), Lock("turns", "address a")],
        [Lock("turns", "address b"), Lock("turns", "address a")],
        [Lock("events", 1), Lock("outbox", 1)],
    ],
)
def test_what_is_against_the_order_is_found(locks: list[Lock]) -> None:
    trace = Trace("x")
    for lock in locks:
        trace.take(lock)
    assert trace.faults()
