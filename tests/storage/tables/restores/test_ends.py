"""Accounts that hold what ends, in batches, in the order of their ids."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy import event as sql_event

from authapi.crypto.ids import new_id, new_ids
from authapi.crypto.secrets import hash_secret
from authapi.storage import Database
from tests.storage.rows import a_session, a_user, store_user
from tests.tables import sessions, users


async def test_a_batch_does_not_read_the_sessions_of_all_accounts(database: Database) -> None:
    owner = await store_user(database, a_user())
    async with database.transaction() as store:
        await store.sessions.add(a_session(owner), hash_secret("first"))
    async with database.engine.begin() as connection:
        user, session = [
            dict((await connection.execute(sa.select(table))).mappings().one())
            for table in (users, sessions)
        ]
        ids = sorted([owner.id, *new_ids(1000)])
        await connection.execute(
            sa.insert(users),
            [
                user | {"id": it, "email": f"{it}@example.com", "webauthn_handle": it.bytes}
                for it in ids
                if it != owner.id
            ],
        )
        await connection.execute(
            sa.insert(sessions),
            [
                session
                | {"id": new_id(), "user_id": it, "secret_hash": hash_secret(f"{it} {number}")}
                for it in ids
                for number in range(3)
            ],
        )
        await connection.exec_driver_sql("ANALYZE")
    statements: list[tuple[str, Any]] = []

    def keep(_c: object, _cursor: object, statement: str, values: object, *_: object) -> None:
        if "FROM authapi_sessions" in statement:
            statements.append((statement, values))

    sql_event.listen(database.engine.sync_engine, "before_cursor_execute", keep)
    for after, expected in ((None, ids[:100]), (ids[500], ids[501:601])):
        async with database.transaction() as store:
            found = await store.ends.lock_owners(
                after=after, before=None, keep_tokens=False, limit=100
            )
        assert found == expected
    sql_event.remove(database.engine.sync_engine, "before_cursor_execute", keep)
    assert statements
    async with database.engine.begin() as connection:
        explain = "EXPLAIN" if connection.dialect.name == "postgresql" else "EXPLAIN QUERY PLAN"
        for statement, values in statements:
            rows = await connection.exec_driver_sql(f"{explain} {statement}", values)
            lines = [row[-1] for row in rows if "Key:" not in row[-1]]
            plan = [line for line in lines if "authapi_sessions" in line]
            assert plan
            assert all("ix_authapi_sessions_user_id" in line for line in plan), plan
