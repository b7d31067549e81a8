"""`authapi.orm` in the models of SQLModel."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from pydantic import BaseModel
from sqlalchemy.orm import Session, backref, relationship
from sqlmodel import Field, Relationship, SQLModel

from authapi.domain.user import User
from authapi.orm import UserRow, user_fk
from authapi.storage import Database
from authapi.storage.application.profile import Profile, key_of
from authapi.storage.names import DEFAULT_NAMES
from tests.storage.rows import a_user, store_user, sync_url

# The other side stays on `UserRow` for all tests of the process, some of which have no such table.
NOTES = backref("notes", passive_deletes="all")


class Note(SQLModel, table=True):
    id: int | None = Field(default=None, primary_key=True)
    text: str
    owner_id: UUID = Field(sa_column=sa.Column(sa.Uuid, user_fk(ondelete="CASCADE")))
    owner: UserRow = Relationship(sa_relationship=relationship(UserRow, backref=NOTES))


class Card(SQLModel, table=True):
    owner_id: UUID = Field(sa_column=sa.Column(sa.Uuid, user_fk(), primary_key=True))
    city: str = ""


class City(BaseModel):
    city: str = ""


@pytest.fixture
async def user(database: Database) -> User:
    return await store_user(database, a_user())


@pytest.fixture
def theirs(database_url: str) -> Iterator[Session]:
    engine = sa.create_engine(sync_url(database_url), poolclass=sa.NullPool)
    SQLModel.metadata.create_all(engine)
    with Session(engine) as found:
        yield found
    SQLModel.metadata.drop_all(engine)
    engine.dispose()


async def test_relationships_of_sqlmodel(user: User, theirs: Session) -> None:
    theirs.add(Note(text="hello", owner_id=user.id))
    theirs.commit()
    note = theirs.scalars(sa.select(Note)).one()
    assert note.owner.name == "Alice"
    row: Any = theirs.get_one(UserRow, user.id)
    assert [each.text for each in row.notes] == ["hello"]
    row.notes.append(Note(text="second", owner_id=user.id))  # changes a row of theirs only
    theirs.commit()
    assert len(row.notes) == 2


def test_a_class_of_sqlmodel_can_be_a_profile() -> None:
    profile = Profile(table=Card, create=City, update=City, read=City)
    assert key_of(profile, DEFAULT_NAMES).name == "owner_id"
