"""The tables of the application, and the bodies of its routes."""

from uuid import UUID, uuid4

from sqlalchemy import Column, UniqueConstraint, Uuid
from sqlalchemy.orm import relationship
from sqlmodel import Field, Relationship, SQLModel

from authapi.orm import UserRow, user_fk


class ItemIn(SQLModel):
    """What the owner of an item writes."""

    title: str = Field(min_length=1, max_length=255)


class Item(ItemIn, table=True):
    """A row of the table `item`. An account that owns items cannot be deleted."""

    __table_args__ = (UniqueConstraint("owner_id", "title", name="uq_item_owner_title"),)

    id: UUID = Field(default_factory=uuid4, primary_key=True)
    owner_id: UUID = Field(sa_column=Column(Uuid, user_fk(name="fk_item_owner"), nullable=False))
    owner: UserRow = Relationship(sa_relationship=relationship(UserRow))


class ItemOut(ItemIn):
    """An item, as its owner sees it."""

    id: UUID
    owner_id: UUID


class NewUser(SQLModel):
    """An account to create, with its first items."""

    email: str
    password: str
    items: list[str] = []


class UserOut(SQLModel):
    """An account, as superusers see it."""

    email: str
    items: int


class Token(SQLModel):
    """The answer of the login form."""

    access_token: str
    token_type: str
