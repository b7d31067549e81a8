"""Events: stored with their change, and read in pages."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
import sqlalchemy as sa

from authapi.crypto.ids import first_id_at, new_id
from authapi.domain.client import Client
from authapi.domain.events import REFUSALS, Event, EventFilter, EventType
from authapi.storage import Database
from tests.storage.rows import a_user, store_user
from tests.tables import events

AT = datetime(2026, 11, 23, 8, 0, 0, 123456, tzinfo=UTC)
ALICE, BOB = new_id(), new_id()


@pytest.fixture
def told() -> list[Event]:
    """The events that `on_commit` was called with."""
    return []


@pytest.fixture
async def database(database_url: str, told: list[Event]) -> AsyncIterator[Database]:
    found = Database(database_url, on_commit=told.append)
    yield found
    await found.close()


def event(
    kind: EventType = EventType.LOGIN, user_id: UUID | None = ALICE, **detail: object
) -> Event:
    client = Client(ip="2001:db8::1", user_agent="a browser ☃", request_id="0" * 32)
    return Event(
        id=new_id(),
        at=AT,
        type=kind,
        user_id=user_id,
        session_id=new_id(),
        strategy="session",
        client=client,
        detail=detail,
    )


async def add(database: Database, *added: Event) -> None:
    async with database.transaction() as store:
        for item in added:
            await store.events.add(item)


async def page(database: Database, **options: object) -> list[Event]:
    async with database.read() as store:
        found = await store.events.page(
            ALICE,
            **{"before": None, "limit": 10, **options},  # type: ignore[arg-type]  # as the test says
        )
    return list(found)


@pytest.mark.parametrize("kind", EventType)
async def test_event_is_stored_and_returned(database: Database, kind: EventType) -> None:
    written = event(kind, count=3, what="something")
    await add(database, written)
    assert await page(database) == [written]


async def test_outcome_is_stored_in_its_column(database: Database) -> None:
    await add(database, *(event(kind) for kind in EventType))
    async with database.engine.connect() as connection:
        rows = (await connection.execute(sa.select(events.c.type, events.c.outcome))).all()
    assert {EventType(kind): outcome for kind, outcome in rows} == {
        kind: "refused" if kind in REFUSALS else "success" for kind in EventType
    }


async def test_missing_values_are_stored_as_null(database: Database) -> None:
    bare = Event(
        id=new_id(),
        at=AT,
        type=EventType.LOGIN_REFUSED,
        user_id=ALICE,
        session_id=None,
        strategy=None,
        client=Client(),
        detail={},
    )
    await add(database, bare)
    assert await page(database) == [bare]


async def test_pages_are_contiguous_and_newest_first(database: Database) -> None:
    mine = sorted((event() for _ in range(25)), key=lambda made: made.id)
    others = [event(user_id=BOB) for _ in range(5)] + [event(user_id=None)]
    await add(database, *mine[:10], *others, *mine[10:])
    found: list[Event] = []
    sizes = []
    while True:
        step = await page(database, before=found[-1].id if found else None)
        sizes.append(len(step))
        found += step
        if len(step) < 10:
            break
    assert sizes == [10, 10, 5]
    assert found == mine[::-1]


async def test_pages_have_the_types_that_are_asked_for(database: Database) -> None:
    added = sorted((event(kind) for kind in EventType), key=lambda made: made.id)
    await add(database, *added, *(event(kind, user_id=BOB) for kind in REFUSALS))
    refused = [item for item in reversed(added) if item.type in REFUSALS]
    assert await page(database, types=REFUSALS) == refused
    assert await page(database, types=REFUSALS, before=refused[2].id) == refused[3:]
    assert await page(database, types=frozenset()) == []


async def test_failed_transaction_stores_and_logs_no_event(
    database: Database, told: list[Event]
) -> None:

    async def fail() -> None:
        async with database.transaction() as store:
            await store.events.add(event())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert (await page(database), told) == ([], [])
    written = [event(), event()]
    await add(database, *written)
    assert told == written


async def test_event_is_logged_only_after_the_commit(database: Database, told: list[Event]) -> None:
    # Inside the transaction, nothing is logged yet.
    async with database.transaction() as store:
        await store.events.add(event())
        assert told == []
    assert len(told) == 1


async def test_add_for_email_finds_the_account_in_one_statement(
    database: Database, told: list[Event]
) -> None:
    user = await store_user(database, a_user(), email="alice@example.com")
    statements: list[str] = []

    def note(_: object, __: object, statement: str, *___: object) -> None:
        statements.append(statement)

    sa.event.listen(database.engine.sync_engine, "before_cursor_execute", note)
    for email in ("alice@example.com", "unknown@example.com"):
        async with database.transaction() as store:
            await store.events.add_for_email(event(EventType.THROTTLED, None), email=email)
    sa.event.remove(database.engine.sync_engine, "before_cursor_execute", note)
    assert [item.user_id for item in told] == [user.id, None]
    async with database.read() as store:
        assert await store.events.page(user.id, before=None, limit=10) == told[:1]
    # The same statements, whether the account exists or not.
    half = len(statements) // 2
    assert statements[:half] == statements[half:]
    assert sum("INSERT" in statement for statement in statements) == 2


async def test_events_outlive_their_account(database: Database) -> None:
    # There is no user at all: events have no foreign key.
    await add(database, event())
    assert len(await page(database)) == 1


@pytest.mark.parametrize(
    ("stored", "asked"),
    [
        ("2001:db8::1", ["2001:db8::1", "2001:DB8::1", "2001:db8:0:0:0:0:0:1", "2001:db8::1%1"]),
        ("192.0.2.1", ["192.0.2.1", "::ffff:192.0.2.1", "::FFFF:c000:201"]),
        # As earlier releases stored the peers of a dual-stack socket.
        ("::ffff:192.0.2.1", ["192.0.2.1", "::ffff:192.0.2.1"]),
        ("::ffff:c000:201", ["192.0.2.1", "::ffff:c000:201"]),
    ],
)
async def test_ip_is_found_in_every_notation(
    database: Database, stored: str, asked: list[str]
) -> None:
    here = replace(event(), client=Client(ip=stored))
    await add(database, here, replace(event(), client=Client(ip="192.0.2.2")))
    async with database.read() as store:
        for ip in asked:
            found = await store.events.search(EventFilter(ip=ip), before=None, limit=10)
            assert [item.id for item in found] == [here.id], ip
        for ip in ("192.0.2.3", "", "x", "192.0.2.1:80"):
            assert not await store.events.search(EventFilter(ip=ip), before=None, limit=10)


async def test_requests_without_an_ip_address_are_counted(database: Database) -> None:
    request = Client(ip=None, request_id="0" * 32)
    gone = new_id()
    await add(
        database,
        *(replace(event(), client=request) for _ in range(2)),
        replace(event(), client=request, id=first_id_at(AT)),
        replace(event(), client=Client()),  # the command line
        replace(event(), client=request, type=EventType.ACCOUNT_DELETED),  # by its owner
        event(),
        event(user_id=gone),
    )
    async with database.transaction() as store:
        await store.events.anonymise(gone)
    async with database.read() as store:
        assert await store.events.count_without_address(since=first_id_at(AT)) == 3
        later = first_id_at(AT + timedelta(milliseconds=1))
        assert await store.events.count_without_address(since=later) == 2
