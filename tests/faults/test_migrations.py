"""12, 13, 15 and 16: migrations with rows in the tables, killed half-way, and four at once."""

import asyncio
import random
import time
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa
from alembic.script import ScriptDirectory

from authapi.crypto.passwords import Cost, PasswordHasher
from authapi.storage import migrations
from tests.faults.conftest import EmptyURL, NewService, Report
from tests.faults.harness.checker import can_log_in
from tests.faults.harness.figures import scaled
from tests.faults.harness.http_client import Client
from tests.storage.rows import AT, sync_url

pytestmark = pytest.mark.faults

_PASSWORD = "correct horse battery staple"
_CONCURRENCY = 4

Rows = dict[str, list[dict[str, Any]]]


def revisions() -> list[str]:
    """Returns all revisions, the oldest first."""
    script = ScriptDirectory.from_config(migrations._config())
    return [revision.revision for revision in script.walk_revisions()][::-1]


async def test_12_up_with_rows_from_every_revision(
    empty_url: EmptyURL, new_service: NewService, report: Report
) -> None:
    url, written = empty_url(), dict[str, Rows]()
    compared = 0
    for revision in revisions():
        migrations.upgrade(url, revision)
        written[revision] = insert(url, revision)
        for rows in written.values():
            compared += compare(url, rows)
    migrations.check(url)
    service = new_service(url)
    running = await asyncio.to_thread(service.start)
    async with Client(running.port) as client:
        for revision in written:
            assert await can_log_in(client, f"user{revision}@example.com", _PASSWORD)
    report(f"{len(written)} revisions, {compared} rows compared, differences 0; each user logs in")


async def test_13_down_and_up_again(empty_url: EmptyURL, report: Report) -> None:
    url, steps = empty_url(), 0
    chain = revisions()
    migrations.upgrade(url)
    for older in [*chain[-2::-1], "base"]:
        kept = insert(url, migrations.current(url) or "")
        migrations.downgrade(url, older)
        compare(url, kept, ignore_missing=True)
        steps += 1
    for newer in chain:
        migrations.upgrade(url, newer)
        insert(url, newer)
        steps += 1
    migrations.check(url)
    report(f"{steps} of {2 * len(chain)} steps with rows in the tables, differences to models 0")


async def test_15_killed_half_way(
    empty_url: EmptyURL, new_service: NewService, report: Report, chance: random.Random
) -> None:
    rounds, stopped, duration = scaled(3, 40), 0, 3.0
    for number in range(rounds):
        url = empty_url()
        first = revisions()[0]
        await asyncio.to_thread(migrations.upgrade, url, first)
        kept = insert(url, first)
        service = new_service(url)
        started_at = time.monotonic()
        process = service.command("db", "upgrade")
        if number:  # the first round measures the duration, which gives the time of the kill
            await asyncio.sleep(chance.uniform(0.4 * duration, duration))
            stopped += process.kill() != 0
        else:
            assert await asyncio.to_thread(process.wait, 60) == 0
            duration = time.monotonic() - started_at
        await asyncio.to_thread(service.run, "db", "upgrade")
        await asyncio.to_thread(service.run, "db", "check")
        compare(url, kept)
    report(f"{rounds} rounds, {stopped} killed within {duration:.1f} s, stuck 0, rows lost 0")


@pytest.mark.parametrize("command", ["db upgrade", "serve"])
async def test_16_four_at_once(
    empty_url: EmptyURL, new_service: NewService, report: Report, command: str
) -> None:
    rounds, failed = scaled(1, 10), list[str]()
    for _ in range(rounds):
        service = new_service(empty_url())
        if command == "serve":
            if not service.is_sqlite:  # by default `serve` does not migrate PostgreSQL
                await asyncio.to_thread(migrations.upgrade, service.database_url)
            started = [service.start(wait=False) for _ in range(_CONCURRENCY)]
            for running in started:
                try:
                    await asyncio.to_thread(running.ready)
                except (RuntimeError, TimeoutError) as error:
                    failed.append(str(error))
        else:
            processes = [service.command("db", "upgrade") for _ in range(_CONCURRENCY)]
            for process in processes:
                if await asyncio.to_thread(process.wait, 60) != 0:
                    failed.append(process.output())
        service.stack.close()
        migrations.check(service.database_url)
    report(f"{rounds} rounds of {_CONCURRENCY}, failed {len(failed)}")
    assert failed == []


def insert(url: str, revision: str) -> Rows:
    """Inserts a row with a value in every column into each table. Returns the rows."""
    engine = sa.create_engine(sync_url(url), poolclass=sa.NullPool)
    metadata, user, session = sa.MetaData(), uuid4(), uuid4()
    metadata.reflect(engine)
    known = {
        "email": f"user{revision}@example.com",
        "email_given": f"User{revision}@example.com",
        "password_hash": PasswordHasher(Cost(19456, 2, 1)).hash(_PASSWORD).text,
        "kind": "session",
        "is_active": True,
        "is_superuser": False,
        "kid": uuid4().hex,
        "state": "retired",
        "username": f"user{revision}",
        "receiver": f"receiver of {revision}",
        "subject": f"subject of {revision}",
        "mfa_since": None,  # the user logs in by password
    }
    rows: Rows = {}
    with engine.begin() as connection:
        for table in metadata.sorted_tables:
            if table.name == "authapi_version":
                continue
            row = {column.name: known.get(column.name, _value(column)) for column in table.columns}
            if "user_id" in row:
                row["user_id"] = _id(table.c.user_id, user)
            if "session_id" in row:
                row["session_id"] = _id(table.c.session_id, session)
            for name, own in (("users", user), ("sessions", session)):
                if table.name == f"authapi_{name}":
                    row["id"] = _id(table.c.id, own)
            connection.execute(sa.insert(table).values(row))
            rows[table.name] = [row]
    engine.dispose()
    return rows


def compare(url: str, rows: Rows, *, ignore_missing: bool = False) -> int:
    """Returns the number of rows with unchanged values. Raises AssertionError for a changed one."""
    engine = sa.create_engine(sync_url(url), poolclass=sa.NullPool)
    metadata, count = sa.MetaData(), 0
    metadata.reflect(engine)
    with engine.connect() as connection:
        for name, expected in rows.items():
            if ignore_missing and name not in metadata.tables:
                continue
            table = metadata.tables[name]
            for row in expected:
                matches = sa.and_(*(key == row[key.name] for key in table.primary_key.columns))
                found = connection.execute(sa.select(table).where(matches)).one()
                for column, value in row.items():
                    if ignore_missing and column not in table.c:
                        continue
                    assert found._mapping[column] == value, (name, column)
                count += 1
    engine.dispose()
    return count


def _value(column: sa.Column[Any]) -> object:
    if column.name == "id":
        return _id(column, uuid4())
    match column.type:
        case sa.Boolean():
            return True
        case sa.DateTime():
            is_aware = column.type.timezone
            return AT if is_aware else AT.replace(tzinfo=None)
        case sa.JSON():
            return {"a": [1, "é"]}
        case sa.LargeBinary():
            return uuid4().bytes * 2
        case sa.Integer() | sa.Numeric():
            return 7
        case sa.Uuid():
            return uuid4()
    return "x"


def _id(column: sa.Column[Any], value: Any) -> object:
    # On SQLite, reflection returns a string of 32 characters for a UUID.
    return value if isinstance(column.type, sa.Uuid) else value.hex
