"""`Profile`: what an application may declare, and the error of each mistake."""

import re
from typing import Any

import pytest
import sqlalchemy as sa
from pydantic import BaseModel
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from authapi.errors import ConfigurationError
from authapi.orm import ORM, user_fk
from authapi.storage.application.profile import Profile, key_of
from authapi.storage.names import DEFAULT_NAMES, TableNames


class In(BaseModel):
    city: str = ""


class Out(BaseModel):
    city: str


def declare(*columns: Any, **changes: Any) -> Profile:
    own = (sa.Column("city", sa.String(20), nullable=False), *columns)
    table = sa.Table("cards", sa.MetaData(), *own)
    declared: dict[str, Any] = {"table": table, "create": In, "update": In, "read": Out}
    return Profile(**(declared | changes))


def key(**options: Any) -> sa.Column[Any]:
    return sa.Column("user_id", sa.Uuid, user_fk(), **options)


def test_tables_and_mapped_classes_are_accepted() -> None:
    class Base(DeclarativeBase):
        pass

    class Card(Base):
        __tablename__ = "cards"

        id: Mapped[int] = mapped_column(primary_key=True)
        user_id: Mapped[Any] = mapped_column(sa.Uuid, user_fk(ondelete="CASCADE"), unique=True)
        city: Mapped[str] = mapped_column(sa.String(20))

    for table in (Card, Card.__table__):
        assert key_of(declare(table=table), DEFAULT_NAMES).name == "user_id"


@pytest.mark.parametrize(
    "columns",
    [
        (key(primary_key=True),),
        (sa.Column("id", sa.Integer, primary_key=True), key(unique=True)),
        (key(), sa.UniqueConstraint("user_id")),
        (key(), sa.Index("ix_cards", "user_id", unique=True)),
        (sa.Column("user_id", sa.ForeignKey("authapi_users.id"), primary_key=True),),
        (
            key(primary_key=True),
            sa.Column("at", sa.DateTime, nullable=False, default=sa.func.now()),
        ),
    ],
)
def test_one_column_is_unique_and_refers_to_accounts(columns: Any) -> None:
    assert key_of(declare(*columns), DEFAULT_NAMES).name == "user_id"


def test_the_table_refers_to_the_names_of_the_installation() -> None:
    names = TableNames("shop_", "auth")
    column: sa.Column[Any] = sa.Column(
        "user_id", ORM(prefix="shop_", schema="auth").user_fk(), primary_key=True
    )
    assert key_of(declare(column), names).name == "user_id"
    with pytest.raises(ConfigurationError, match=re.escape("no foreign key to authapi_users.id")):
        key_of(declare(column._copy()), DEFAULT_NAMES)


class Unknown(BaseModel):
    town: str = ""


class Key(BaseModel):
    user_id: str = ""


@pytest.mark.parametrize(
    ("profile", "text"),
    [
        (declare(sa.Column("id", sa.Integer, primary_key=True)), "has no foreign key to"),
        (
            declare(key(primary_key=True), sa.Column("by", sa.Uuid, user_fk())),
            "has several foreign keys to authapi_users.id",
        ),
        (declare(key()), "cards.user_id must be the primary key or unique"),
        (declare(key(), sa.UniqueConstraint("user_id", "city")), "must be the primary key"),
        (
            declare(
                key(),
                sa.Index("ix", "user_id", unique=True, sqlite_where=sa.text("city = 'x'")),
            ),
            "must be the primary key or unique",
        ),
        (declare(key(primary_key=True), create=Unknown), "Unknown.town is no column of cards"),
        (declare(key(primary_key=True), read=Unknown), "Unknown.town is no column of cards"),
        (declare(key(primary_key=True), update=Key), "Key.user_id is no column of cards that"),
        (declare(key(primary_key=True), create=dict), "Profile(create=...) takes a model"),
        (declare(table="cards"), "Profile(table=...) takes a table"),
        (
            declare(key(primary_key=True), sa.Column("plan", sa.String, nullable=False)),
            "cards.plan is not null and has no default, and In has no field",
        ),
        (
            declare(
                key(primary_key=True),
                sa.UniqueConstraint("city", initially="DEFERRED", deferrable=True),
            ),
            "a constraint of cards is deferred",
        ),
    ],
)
def test_each_mistake_has_one_sentence(profile: Profile, text: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(text)) as raised:
        key_of(profile, DEFAULT_NAMES)
    assert "\n" not in str(raised.value)
