"""crudauth as in its documentation, with sessions and bearer tokens.

`CRUDAUTH_SESSIONS` selects the session store: `memory`, the default for one process, or `database`,
the documented store for several processes without Redis.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from crudauth import BearerTransport, CRUDAuth, DatabaseStore, Principal, SessionTransport
from crudauth.models import AuthUserMixin
from crudauth.ratelimit import RateLimit
from fastapi import Depends, FastAPI
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase

from benchmarks.apps.body import BODY


class Base(DeclarativeBase):
    """The declarative base."""


class User(Base, AuthUserMixin):  # type: ignore[misc]  # the mixin is made at run time
    """The table of accounts."""

    __tablename__ = "users"


engine = create_async_engine(os.environ["DATABASE_URL"])
sessions = async_sessionmaker(engine, expire_on_commit=False)
in_database = os.environ["CRUDAUTH_SESSIONS"] == "database"
store = DatabaseStore(sessions) if in_database else None


async def get_session() -> AsyncIterator[AsyncSession]:
    """Opens one database session per request."""
    async with sessions() as session:
        yield session


auth = CRUDAuth(
    session=get_session,
    user_model=User,
    SECRET_KEY="only for a benchmark on loopback, 32+",
    database_store=store,
    # The default of five per hour is too low for the benchmark.
    rate_limits={"register": RateLimit(times=0, seconds=1)},
    transports=[SessionTransport(), BearerTransport(access_ttl=900)],
)


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Creates the tables, and opens crudauth."""
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    if store is not None:
        await store.create_tables()
    await auth.initialize()
    yield
    await auth.shutdown()
    await engine.dispose()


app = FastAPI(lifespan=lifespan)
app.include_router(auth.router)
by_session = auth.current_user(transport="session")
by_jwt = auth.current_user(transport="bearer")


@app.get("/plain")
async def plain() -> dict[str, str]:
    """The same route without authentication and middleware."""
    return BODY


@app.get("/guarded/cookie")
async def guarded_by_session(caller: Annotated[Principal, Depends(by_session)]) -> dict[str, str]:
    """A route for callers with a session."""
    return BODY


@app.get("/guarded/jwt")
async def guarded_by_jwt(caller: Annotated[Principal, Depends(by_jwt)]) -> dict[str, str]:
    """A route for callers with a JWT."""
    return BODY
