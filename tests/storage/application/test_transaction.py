"""What an application can do in a transaction of authapi, on both databases."""

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from authapi.storage import Database, Transaction

pytestmark = pytest.mark.anyio


class Base(DeclarativeBase):
    """The tables of an application."""


class Note(Base):
    """A row of an application."""

    __tablename__ = "test_notes"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(unique=True)


notes = Base.metadata.tables["test_notes"]


@pytest.fixture
async def database_with_notes(database: Database) -> AsyncIterator[Database]:
    """A database of authapi with one table of an application."""
    async with database.transaction() as store:
        await store.transaction.execute(sa.schema.CreateTable(notes))
    yield database
    async with database.transaction() as store:  # on PostgreSQL, tests share a database
        await store.transaction.execute(sa.schema.DropTable(notes))


async def texts(database: Database) -> list[str]:
    """The committed notes."""
    async with database.read() as store:
        return list(await store.connection.scalars(sa.select(notes.c.text).order_by(notes.c.id)))


async def run(database: Database, work: Callable[[Transaction], Awaitable[None]]) -> None:
    """Runs `work` in a transaction of its own."""
    async with database.transaction() as store:
        await work(store.transaction)


async def test_statements_are_committed_with_the_transaction(
    database_with_notes: Database,
) -> None:
    async with database_with_notes.transaction() as store:
        await store.transaction.execute(sa.insert(notes).values(id=1, text="a"))
        await store.transaction.execute(
            sa.insert(notes), [{"id": 2, "text": "b"}, {"id": 3, "text": "c"}]
        )
    assert await texts(database_with_notes) == ["a", "b", "c"]


async def test_an_error_undoes_statements_and_objects(database_with_notes: Database) -> None:
    async def work(tx: Transaction) -> None:
        await tx.execute(sa.insert(notes).values(id=1, text="a"))
        tx.session.add(Note(id=2, text="b"))
        await tx.flush()
        raise LookupError

    with pytest.raises(LookupError):
        await run(database_with_notes, work)
    assert await texts(database_with_notes) == []


async def test_pending_objects_are_written_before_the_commit(
    database_with_notes: Database,
) -> None:
    async with database_with_notes.transaction() as store:
        note = Note(id=1, text="a")
        store.transaction.session.add(note)
        assert store.transaction.session is store.transaction.session
    assert await texts(database_with_notes) == ["a"]
    assert note.text == "a"  # still usable, without a query
    assert sa.inspect(note).detached


async def test_statements_see_pending_objects(database_with_notes: Database) -> None:
    async with database_with_notes.transaction() as store:
        store.transaction.session.add(Note(id=1, text="a"))
        rows = await store.transaction.execute(sa.select(notes.c.text))
        assert rows.scalars().all() == ["a"]


async def test_an_object_that_cannot_be_written_undoes_all(database_with_notes: Database) -> None:
    async def work(tx: Transaction) -> None:
        await tx.execute(sa.insert(notes).values(id=1, text="a"))
        tx.session.add(Note(id=2, text="a"))

    with pytest.raises(sa.exc.IntegrityError):
        await run(database_with_notes, work)
    assert await texts(database_with_notes) == []


async def test_a_swallowed_error_of_the_session_commits_nothing(
    database_with_notes: Database,
) -> None:
    async def work(tx: Transaction) -> None:
        await tx.execute(sa.insert(notes).values(id=1, text="a"))
        tx.session.add(Note(id=2, text="a"))
        with pytest.raises(sa.exc.IntegrityError):
            await tx.flush()

    with pytest.raises(sa.exc.InvalidRequestError):
        await run(database_with_notes, work)
    assert await texts(database_with_notes) == []


async def test_a_savepoint_can_be_rolled_back_alone(database_with_notes: Database) -> None:
    async with database_with_notes.transaction() as store:
        session = store.transaction.session
        session.add(Note(id=1, text="a"))
        await session.flush()
        with pytest.raises(sa.exc.IntegrityError):
            async with session.begin_nested():
                session.add(Note(id=2, text="a"))
        await store.transaction.execute(sa.insert(notes).values(id=3, text="c"))
    assert await texts(database_with_notes) == ["a", "c"]


@pytest.mark.parametrize("method", ["commit", "rollback", "close", "reset", "invalidate"])
async def test_the_session_cannot_end_the_transaction(
    database_with_notes: Database, method: str
) -> None:
    async def work(tx: Transaction) -> None:
        tx.session.add(Note(id=1, text="a"))
        await getattr(tx.session, method)()

    with pytest.raises(RuntimeError, match="authapi ends this transaction"):
        await run(database_with_notes, work)
    assert await texts(database_with_notes) == []


async def test_a_rollback_behind_our_back_commits_nothing(database_with_notes: Database) -> None:
    async def work(tx: Transaction) -> None:
        tx.session.add(Note(id=1, text="a"))
        await tx.flush()
        await tx.session.run_sync(lambda session: session.rollback())
        await tx.session.run_sync(lambda session: session.commit())

    with pytest.raises(sa.exc.InvalidRequestError):
        await run(database_with_notes, work)
    assert await texts(database_with_notes) == []
