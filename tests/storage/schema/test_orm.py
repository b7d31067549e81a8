"""`authapi.orm`: foreign keys, joins and relationships from the tables of an application."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_type_hints
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    declared_attr,
    mapped_column,
    relationship,
    selectinload,
)

from authapi import Settings, create_app, orm
from authapi.domain.user import User
from authapi.errors import ConfigurationError, ReadOnlyRow
from authapi.orm import ORM, UserRow, user_fk, users
from authapi.storage import Database
from authapi.storage.models.accounts import UserRow as Columns
from authapi.storage.names import DEFAULT_NAMES
from authapi.storage.schema import described
from authapi.testing import client
from tests.storage.rows import a_user, store_user, sync_url


class Base(DeclarativeBase):
    """The models of an application."""


class Owned:
    """A mixin: SQLAlchemy copies its columns."""

    owner_id: Mapped[UUID] = mapped_column(user_fk(ondelete="CASCADE"))

    @declared_attr
    def owner(cls) -> Mapped[UserRow]:  # noqa: N805  # SQLAlchemy's convention
        return relationship(UserRow)


class Item(Base):
    __tablename__ = "items"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    owner_id: Mapped[UUID] = mapped_column(user_fk(ondelete="RESTRICT"), index=True)
    owner: Mapped[UserRow] = relationship(UserRow)


class Comment(Owned, Base):
    __tablename__ = "comments"
    id: Mapped[int] = mapped_column(primary_key=True)


@pytest.fixture
async def user(database: Database) -> User:
    return await store_user(database, a_user(roles=frozenset({"editor"})))


@pytest.fixture
def theirs(database_url: str) -> Iterator[Session]:
    engine = sa.create_engine(sync_url(database_url), poolclass=sa.NullPool)
    Base.metadata.create_all(engine)
    with Session(engine) as found:
        yield found
    Base.metadata.drop_all(engine)
    engine.dispose()


async def test_a_row_has_the_fields_of_a_user(user: User, theirs: Session) -> None:
    row = theirs.get_one(UserRow, user.id)
    assert {name: getattr(row, name) for name in User.__slots__} == {
        name: getattr(user, name) for name in User.__slots__
    }
    assert row.canonical_email == "alice@example.com"
    canonical = {"canonical_email", "canonical_username"}
    assert get_type_hints(Columns).keys() == {*User.__slots__, *canonical}
    assert set(sa.inspect(UserRow).all_orm_descriptors.keys()) >= get_type_hints(Columns).keys()
    assert not hasattr(row, "password_hash")


async def test_relationships_and_joins_of_sqlalchemy(user: User, theirs: Session) -> None:
    row = theirs.get_one(UserRow, user.id)
    theirs.add_all([Item(title="mine", owner=row), Comment(owner=row)])
    theirs.commit()
    theirs.expire_all()
    query = (
        sa.select(Item.title, UserRow.name)
        .join(Item.owner)
        .where(UserRow.canonical_email == "alice@example.com", UserRow.is_active)
    )
    assert theirs.execute(query).one() == ("mine", "Alice")
    loaded = theirs.scalars(sa.select(Item).options(selectinload(Item.owner))).one()
    assert (loaded.owner.email, loaded.owner_id) == (user.email, user.id)
    joined = sa.select(Item.title).join(users, users.c.id == Item.owner_id)
    assert theirs.scalars(joined).one() == "mine"
    assert theirs.scalars(sa.select(Comment)).one().owner.id == user.id


@pytest.mark.parametrize("change", ["insert", "update", "delete"])
async def test_flushing_a_change_is_refused(user: User, theirs: Session, change: str) -> None:
    row = theirs.get_one(UserRow, user.id)
    if change == "insert":
        theirs.add(UserRow(id=uuid4()))  # type: ignore[call-arg]  # unmapped for type checkers
    elif change == "update":
        row.name = "Mallory"
    else:
        theirs.delete(row)
    with pytest.raises(ReadOnlyRow, match="UserRow is read-only"):
        theirs.commit()
    theirs.rollback()
    assert theirs.get_one(UserRow, user.id).name == "Alice"


@pytest.mark.parametrize(
    "ondelete", [None, "CASCADE", "SET NULL", "SET DEFAULT", "RESTRICT", "NO ACTION"]
)
def test_the_application_chooses_what_a_deletion_does(ondelete: Any) -> None:
    key = user_fk(ondelete=ondelete, name="fk_owner", deferrable=True, initially="DEFERRED")
    table = sa.Table("t", sa.MetaData(), sa.Column("owner_id", sa.Uuid, key))
    text = str(sa.schema.CreateTable(table))
    action = "" if ondelete is None else f" ON DELETE {ondelete}"
    assert (
        "CONSTRAINT fk_owner FOREIGN KEY(owner_id) REFERENCES authapi_users (id)"
        f"{action} DEFERRABLE INITIALLY DEFERRED" in text
    )


def test_names_of_code_have_their_own_table_and_class() -> None:
    other, again = ORM(prefix="x_", schema="auth"), ORM(prefix="x_", schema="auth")
    assert str(other.users) == "auth.x_users"
    assert (other.users, other.UserRow) == (again.users, again.UserRow)
    assert other.UserRow is not UserRow
    assert "FROM auth.x_users" in str(sa.select(other.UserRow.name))
    assert ORM().users is users


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="no attribute 'sessions'"):
        _ = orm.sessions  # type: ignore[attr-defined]


def in_new_process(code: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_environment_names_the_tables(tmp_path: Path) -> None:
    code = "from authapi.orm import users; print(users)"
    (tmp_path / ".env").write_text("AUTHAPI_TABLE_PREFIX=shop_\n")
    # Other settings may be missing: the models are imported where no service runs.
    done = in_new_process(code, tmp_path, AUTHAPI_ENV="production", AUTHAPI_DATABASE_SCHEMA="auth")
    assert (done.stdout, done.stderr) == ("auth.shop_users\n", "")
    refused = in_new_process(code, tmp_path, AUTHAPI_TABLE_PREFIX="no-hyphen")
    assert "ConfigurationError: AUTHAPI_TABLE_PREFIX: " in refused.stderr


async def test_a_start_with_other_names_than_the_models_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(described, "_from_environment", {DEFAULT_NAMES})
    monkeypatch.setattr(described, "_from_code", set())
    settings = Settings(data_dir=tmp_path, table_prefix="y_")
    with pytest.raises(ConfigurationError, match=r"ORM\(prefix='y_', schema=None\) in the models"):
        async with client(create_app(settings)):
            pass
    ORM(prefix="y_")
    async with client(create_app(settings)) as api:
        assert (await api.create_user()).is_active
