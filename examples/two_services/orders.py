"""Orders: a resource server that accepts tokens of authapi, without users, secrets or database."""

import os
from collections import defaultdict
from itertools import count
from typing import Annotated
from uuid import UUID

from fastapi import Depends, FastAPI
from pydantic import BaseModel, Field

from authapi import User, current_user
from authapi.verify import RemoteJWT, ResourceServer

ISSUER = os.environ.get("ORDERS_ISSUER", "http://127.0.0.1:8000")
AUDIENCE = "orders"

auth = ResourceServer(RemoteJWT(ISSUER, AUDIENCE))
app = FastAPI(title="orders", lifespan=auth.lifespan, docs_url=None, redoc_url=None)
auth.install(app)

Reader = Annotated[User, Depends(current_user(scopes={"orders:read"}))]
Buyer = Annotated[User, Depends(current_user(scopes={"orders:write"}))]


class NewOrder(BaseModel):
    """An order to place."""

    item: str = Field(min_length=1, max_length=100)


class Order(NewOrder):
    """An order that was placed."""

    number: int


_numbers = count(1)
_orders: defaultdict[UUID, list[Order]] = defaultdict(list)


@app.get("/orders")
async def orders(user: Reader) -> list[Order]:
    """List the orders of the caller. `user.id` is the id of the account in authapi."""
    return _orders[user.id]


@app.post("/orders", status_code=201)
async def place(order: NewOrder, user: Buyer) -> Order:
    """Place an order."""
    placed = Order(item=order.item, number=next(_numbers))
    _orders[user.id].append(placed)
    return placed
