"""The routes of items. `current_user` protects all except the public list."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, HTTPException, Query
from sqlalchemy import select
from sqlalchemy.orm import joinedload

from async_app.database import Session
from async_app.models import Item, UserProfile
from async_app.schemas import City, ItemIn, ItemOut, ItemPatch, PublicItem
from authapi import User, current_user

router = APIRouter(tags=["items"])
Caller = Annotated[User, Depends(current_user())]


async def _own_item(item_id: UUID, user: Caller, session: Session) -> Item:
    item = await session.get(Item, item_id)
    if item is None or item.owner_id != user.id:
        raise HTTPException(404, "you have no such item")
    return item


OwnItem = Annotated[Item, Depends(_own_item)]


@router.get("/items", response_model=list[ItemOut])
async def read_items(user: Caller, session: Session) -> list[Item]:
    """List the items of the caller."""
    own = select(Item).where(Item.owner_id == user.id).order_by(Item.title)
    return list(await session.scalars(own))


@router.post("/items", response_model=ItemOut, status_code=201)
async def create_item(body: ItemIn, user: Caller, session: Session) -> Item:
    """Create an item."""
    item = Item(**body.model_dump(), owner_id=user.id)
    session.add(item)
    await session.commit()
    return item


@router.patch("/items/{item_id}", response_model=ItemOut)
async def change_item(body: ItemPatch, item: OwnItem, session: Session) -> Item:
    """Change an item of the caller: its title, whether others see it, or to whom it is lent."""
    for name, value in body.model_dump(exclude_unset=True).items():
        setattr(item, name, value)
    await session.commit()
    return item


@router.delete("/items/{item_id}", status_code=204)
async def delete_item(item: OwnItem, session: Session) -> None:
    """Delete an item of the caller."""
    await session.delete(item)
    await session.commit()


@router.get("/public-items")
async def read_public_items(
    session: Session, city: Annotated[City | None, Query()] = None
) -> list[PublicItem]:
    """List the public items, of all owners or of those in one city."""
    found = select(Item).where(Item.is_public).options(joinedload(Item.owner)).order_by(Item.title)
    if city is not None:
        found = found.join(UserProfile, UserProfile.user_id == Item.owner_id).where(
            UserProfile.city == city
        )
    return [
        PublicItem(title=item.title, owner=item.owner.name if item.owner else None)
        for item in await session.scalars(found.limit(100))
    ]
