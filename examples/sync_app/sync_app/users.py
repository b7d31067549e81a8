"""Accounts with their items, for superusers."""

from collections.abc import Sequence

from fastapi import APIRouter, HTTPException
from sqlalchemy.exc import IntegrityError
from sqlmodel import col, func, select

from authapi.orm import UserRow
from sync_app.database import SessionDep
from sync_app.models import Item, NewUser, UserOut
from sync_app.security import Superuser, auth

router = APIRouter(prefix="/users", tags=["users"])


@router.get("")
def read_users(session: SessionDep, _: Superuser) -> Sequence[UserOut]:
    """List the accounts, with the number of their items."""
    counted = (
        select(UserRow.email, func.count(col(Item.id)))
        .outerjoin(Item, col(Item.owner_id) == UserRow.id)
        .group_by(UserRow.email)
        .order_by(UserRow.email)
    )
    return [UserOut(email=email, items=items) for email, items in session.exec(counted)]


@router.post("", status_code=201)
def create_user(session: SessionDep, _: Superuser, body: NewUser) -> UserOut:
    """Create an account and its first items: all of them, or nothing."""
    try:
        with auth.sync.transaction(session) as tx:
            user = tx.accounts.create(body.email, body.password)
            session.add_all(Item(title=title, owner_id=user.id) for title in body.items)
        session.commit()
    except IntegrityError:
        raise HTTPException(409, "two items have the same title") from None
    return UserOut(email=user.email, items=len(body.items))
