"""Hooks run on every way that makes, changes or removes an account, in its transaction.

The ways are the operations of `tests.services.operations`: every service call that writes.
"""

from collections.abc import Collection
from contextlib import suppress
from uuid import UUID

import pytest
import sqlalchemy as sa

from authapi.domain.events import Event, EventType
from authapi.domain.user import User
from authapi.errors import Forbidden
from authapi.orm import users
from authapi.services.hooks import Hooks
from authapi.storage import Database, Transaction
from tests.services.operations import EXCLUSIVE_OPERATIONS, OPERATIONS, open_harness

MAKING = {EventType.ACCOUNT_REGISTERED, EventType.ACCOUNT_INVITED, EventType.ACCOUNT_IMPORTED}
"""Each new account has exactly one event of these types."""
UNCHANGED = {"rehash"}
"""Operations that write to `users`, but change nothing that the account is."""
EXPECTED = {
    "create": {EventType.ACCOUNT_REGISTERED},
    "register": {EventType.ACCOUNT_REGISTERED},
    "register by mail": {EventType.ACCOUNT_REGISTERED},
    "invite": {EventType.ACCOUNT_INVITED},
    "resend invitation": {EventType.ACCOUNT_INVITED, EventType.INVITATION_RESENT},
    "import": {EventType.ACCOUNT_IMPORTED},
    "accept invitation": {EventType.INVITATION_ACCEPTED},
    "rename": {EventType.ACCOUNT_RENAMED, EventType.LOCALE_CHANGED},
    "confirm with password": {EventType.EMAIL_CONFIRMED},
    "confirm and transfer": {EventType.EMAIL_CONFIRMED},
    "change email": {EventType.EMAIL_CHANGED},
    "revert email change": {EventType.EMAIL_CHANGE_REVERTED},
    "change password": {EventType.PASSWORD_CHANGED},
    "set password": {EventType.PASSWORD_CHANGED},
    "reset": {EventType.PASSWORD_RESET},
    "deactivate": {EventType.ACCOUNT_DEACTIVATED},
    "reset factors": {EventType.FACTOR_ADDED, EventType.FACTORS_RESET},
    "delete": {EventType.ACCOUNT_DELETED},
    "delete by a superuser": {EventType.ACCOUNT_DELETED},
    "promote": {EventType.ACCOUNT_RENAMED, EventType.SUPERUSER_GRANTED},
}

notes = sa.Table(
    "test_hook_notes",
    sa.MetaData(),
    sa.Column("user_id", sa.Uuid),
    sa.Column("what", sa.String(50), nullable=False),
)


class Application:
    """An application that notes each event in its own table, or refuses each event."""

    def __init__(self) -> None:
        self.is_noting = self.is_refusing = False
        self.hooks = Hooks(timeout=5)
        self.hooks.on(list(EventType), self.on_event)
        self.hooks.before_delete(self.before_delete)

    async def on_event(self, event: Event, tx: Transaction) -> None:
        await self._run(event.user_id, event.type.value, tx)

    async def before_delete(self, user: User, tx: Transaction) -> None:
        row = await tx.execute(sa.select(users.c.id).where(users.c.id == user.id))
        assert row.scalar_one() == user.id  # still there
        await self._run(user.id, "before_delete", tx)

    async def _run(self, user_id: UUID | None, what: str, tx: Transaction) -> None:
        if self.is_noting or self.is_refusing:
            await tx.execute(sa.insert(notes).values(user_id=user_id, what=what))
        if self.is_refusing:
            raise Forbidden("refused by a hook")


async def rows_of(database: Database, table: sa.Table) -> Collection[tuple[object, ...]]:
    # The handle of an account's passkeys is random and has no event: asking for the options of the
    # first passkey makes it, and no hook or caller sees it.
    columns = [column for column in table.columns if column.name != "webauthn_handle"]
    async with database.read() as store:
        rows = await store.connection.execute(sa.select(*columns))
        return sorted((tuple(row) for row in rows), key=repr)


@pytest.mark.slow
async def test_hooks_run_on_every_way_and_undo_it(database_url: str) -> None:
    application = Application()
    async with open_harness(database_url, hooks=application.hooks) as harness:
        database = harness.services.database
        async with database.transaction() as store:
            await store.transaction.execute(sa.schema.CreateTable(notes))
        for name, operation in {**OPERATIONS, **EXCLUSIVE_OPERATIONS}.items():
            one, two = await harness.person(), await harness.person()
            before = await rows_of(database, users)

            application.is_refusing = True
            with suppress(Forbidden):
                await operation(harness, one, two)
            application.is_refusing = False
            left = await rows_of(database, users)
            if name not in UNCHANGED:
                assert left == before, name
            assert await rows_of(database, notes) == [], name
            async with database.transaction() as store:
                await store.connection.execute(sa.text("DELETE FROM authapi_outbox"))

            application.is_noting = True
            await operation(harness, one, two)
            application.is_noting = False
            after = await rows_of(database, users)
            noted = await rows_of(database, notes)
            if after != left and name not in UNCHANGED:
                assert noted, name
            if name in EXPECTED:
                kinds = {what for _, what in noted} - {"before_delete"}
                assert kinds == {kind.value for kind in EXPECTED[name]}, name
            ids, earlier = {row[0] for row in after}, {row[0] for row in left}
            made = [owner for owner, what in noted if what in {kind.value for kind in MAKING}]
            assert sorted(made, key=str) == sorted(ids - earlier, key=str), name
            for what in ("before_delete", EventType.ACCOUNT_DELETED.value):
                assert {row[0] for row in noted if row[1] == what} == earlier - ids, name
            async with database.transaction() as store:
                await store.transaction.execute(sa.delete(notes))
        async with database.transaction() as store:  # on PostgreSQL, tests share a database
            await store.transaction.execute(sa.schema.DropTable(notes))
