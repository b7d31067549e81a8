"""Inserts of many rows, and conditions with many values, on both databases."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import sqlalchemy as sa

from authapi.crypto.ids import new_id
from authapi.domain.client import Client
from authapi.domain.events import Event, EventType
from authapi.storage import Database
from authapi.storage.tables.statements import insert_many
from authapi.storage.tables.users import NewUser
from tests.storage.rows import AT, HASH, a_user, sql, stored_users

TEXTS = [
    "한국어",
    "\U0001f600",
    '"quoted"',
    "back\\slash",
    "a'b",
    "%s :name {}",
    "\t\u0085",
    "null",
]


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    found = Database(database_url)
    yield found
    await found.close()


async def test_every_value_is_stored_as_it_is(database: Database, database_url: str) -> None:
    users = [
        a_user(
            email=f"{number}@x.org",
            name=text,
            is_active=number % 2 == 0,
            is_superuser=number % 3 == 0,
            email_confirmed_at=AT if number % 2 else None,
            locale="ko" if number % 2 else None,
            roles=frozenset({"b", "a"}) if number % 2 else frozenset(),
            username=f"Name{number}" if number % 2 else None,
        )
        for number, text in enumerate(TEXTS)
    ]
    new = [NewUser(user, user.email, HASH) for user in users]
    async with database.transaction() as store:
        assert await store.users.add_missing(new) == {user.id for user in users}
    found = {user.id: user for user in await stored_users(database)}
    assert found == {user.id: user for user in users}
    names = sql(database_url, "SELECT username FROM authapi_users WHERE username IS NOT NULL")
    assert {name for (name,) in names} == {"name1", "name3", "name5", "name7"}


async def test_several_events_are_stored_as_single_ones_are(database: Database) -> None:
    client = Client(ip="2001:db8::1", user_agent='a 한 "browser"', request_id="0" * 32)
    event = Event(
        id=new_id(),
        at=AT,
        type=EventType.LOGIN_REFUSED,
        user_id=new_id(),
        session_id=new_id(),
        strategy="session",
        client=client,
        detail={"n": [1, 2.5, None, True], "text": '한 \\ " \n', "more": {}},
        actor_id=new_id(),
    )
    bare = replace(event, user_id=None, session_id=None, strategy=None, client=Client(), detail={})
    several = [replace(event, id=new_id()), replace(bare, id=new_id(), actor_id=None)]
    async with database.transaction() as store:
        await store.events.add_all(several)
        for one in several:
            await store.events.add(replace(one, id=new_id()))
        statement = sa.select(database.tables.events)
        rows = (await store.connection.execute(statement)).mappings().all()
    for one in several:
        kind = [{**row, "id": None} for row in rows if row["session_id"] == one.session_id]
        assert len(kind) == 2
        assert kind[0] == kind[1]
        assert kind[0]["detail"] == one.detail


async def test_more_rows_and_values_than_parameters_are_possible(database: Database) -> None:
    new = [NewUser(a_user(), f"{number}@x.org", HASH) for number in range(70_000 // 16)]
    emails = [f"{number}@x.org" for number in range(30_000)]
    async with database.transaction() as store:
        assert len(await store.users.add_missing(new)) == len(new)
        assert len(await store.users.find_existing_emails(emails)) == len(new)


def test_values_without_a_json_form_are_refused() -> None:
    table = sa.Table("x", sa.MetaData(), sa.Column("data", sa.LargeBinary))
    with pytest.raises(TypeError, match="no JSON"):
        insert_many(sa.make_url("postgresql+psycopg://").get_dialect()(), table, [{"data": b""}])


async def test_a_transaction_can_have_each_statement_planned(postgres_url: str) -> None:
    database = Database(postgres_url)
    show = sa.text("SHOW plan_cache_mode")
    for planned, mode in ((True, "force_custom_plan"), (False, "auto")):
        async with database.transaction() as store:
            if planned:
                await store.plan_each_statement()
            assert await store.connection.scalar(show) == mode
    await database.close()


async def test_nothing_is_planned_on_sqlite(sqlite_url: str) -> None:
    database = Database(sqlite_url)
    async with database.transaction() as store:
        await store.plan_each_statement()
    await database.close()
