"""The bodies of requests and responses."""

from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

_PRINTABLE = r"^[^\x00-\x1f]*$"  # PostgreSQL stores no NUL

Handle = Annotated[str, Field(pattern=r"^[a-z0-9_]{3,30}$", examples=["ada"])]
City = Annotated[str, Field(max_length=100, pattern=_PRINTABLE, examples=["Bern"])]
Title = Annotated[str, Field(min_length=1, max_length=200, pattern=_PRINTABLE)]
Borrower = Annotated[str, Field(max_length=100, pattern=_PRINTABLE)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ProfileIn(_Strict):
    """The profile of a new account."""

    handle: Handle
    city: City | None = None


class ProfilePatch(_Strict):
    """Changes of a profile."""

    handle: Handle = ""
    city: City | None = None


class ProfileOut(BaseModel):
    """A profile."""

    handle: str
    city: str | None


class ItemIn(_Strict):
    """A new item."""

    title: Title
    is_public: bool = False


class ItemPatch(_Strict):
    """Changes of an item."""

    title: Title = ""
    is_public: bool = False
    lent_to: Borrower | None = None


class ItemOut(ItemIn):
    """An item of the caller."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    lent_to: str | None


class PublicItem(BaseModel):
    """An item that its owner shows to others."""

    title: str
    owner: str | None
