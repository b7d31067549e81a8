"""Items: each account sees its own."""

from collections.abc import Sequence
from uuid import UUID

from fastapi import APIRouter, HTTPException
from sqlalchemy.exc import IntegrityError
from sqlmodel import select

from sync_app.database import SessionDep
from sync_app.models import Item, ItemIn, ItemOut
from sync_app.security import CurrentUser

router = APIRouter(prefix="/items", tags=["items"])


@router.get("", response_model=list[ItemOut])
def read_items(session: SessionDep, user: CurrentUser) -> Sequence[Item]:
    """List the items of the caller."""
    return session.exec(select(Item).where(Item.owner_id == user.id).order_by(Item.title)).all()


@router.post("", response_model=ItemOut, status_code=201)
def create_item(session: SessionDep, user: CurrentUser, body: ItemIn) -> Item:
    """Create an item of the caller."""
    item = Item(title=body.title, owner_id=user.id)
    session.add(item)
    try:
        session.commit()
    except IntegrityError:
        raise HTTPException(409, "an item with this title exists") from None
    session.refresh(item)
    return item


@router.delete("/{item_id}", status_code=204)
def delete_item(session: SessionDep, user: CurrentUser, item_id: UUID) -> None:
    """Delete an item of the caller."""
    item = session.get(Item, item_id)
    if item is None or item.owner_id != user.id:
        raise HTTPException(404, "no such item")
    session.delete(item)
    session.commit()
