"""Accounts: authapi with own columns and hooks, on the engine of the application."""

from fastapi import HTTPException
from sqlalchemy import delete, select

from async_app.database import engine
from async_app.models import Item, UserProfile
from async_app.schemas import ProfileIn, ProfileOut, ProfilePatch
from authapi import AuthAPI, Event, EventType, Profile, Settings, Transaction, User

auth = AuthAPI(
    Settings(strategies=("session", "jwt")),
    engine=engine,
    profile=Profile(table=UserProfile, create=ProfileIn, update=ProfilePatch, read=ProfileOut),
)


@auth.on(EventType.ACCOUNT_REGISTERED, EventType.ACCOUNT_INVITED, EventType.ACCOUNT_IMPORTED)
async def add_first_item(event: Event, tx: Transaction) -> None:
    """Gives each new account an item, in the transaction of the account."""
    tx.session.add(Item(owner_id=event.user_id, title="My first item"))


@auth.before_delete
async def decide_about_items(user: User, tx: Transaction) -> None:
    """Refuses while an item is lent, deletes private items, and leaves public items to others."""
    own = Item.owner_id == user.id
    if (await tx.execute(select(Item.id).where(own, Item.lent_to.is_not(None)).limit(1))).first():
        raise HTTPException(409, "an item is lent: take it back before you leave")
    await tx.execute(delete(Item).where(own, ~Item.is_public))
