"""crudauth as its documentation sets it up, with sessions and bearer tokens.

`CRUDAUTH_SESSIONS` chooses where sessions are: `memory`, its default for one process, or
`database`, its documented way for several processes without Redis.
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
    """Where the tables are declared."""


class User(Base, AuthUserMixin):  # type: ignore[misc]  # the mixin is made at run time
    """The accounts."""

    __tablename__ = "users"


engine = create_async_engine(os.environ["DATABASE_URL"])
sessions = async_sessionmaker(engine, expire_on_commit=False)
in_database = os.environ["CRUDAUTH_SESSIONS"] == "database"
store = DatabaseStore(sessions) if in_database else None


async def get_session() -> AsyncIterator[AsyncSession]:
    """One database session a request."""
    async with sessions() as session:
        yield session


auth = CRUDAuth(
    session=get_session,
    user_model=User,
    SECRET_KEY="only for a benchmark on loopback, 32+",
    database_store=store,
    # Five an hour would not give the benchmark its accounts.
    rate_limits={"register": RateLimit(times=0, seconds=1)},
    transports=[SessionTransport(), BearerTransport(access_ttl=900)],
)


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Make the tables, and open what crudauth needs."""
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
    """The same route without authentication; there is no middleware."""
    return BODY


@app.get("/guarded/cookie")
async def guarded_by_session(caller: Annotated[Principal, Depends(by_session)]) -> dict[str, str]:
    """For callers with a session."""
    return BODY


@app.get("/guarded/jwt")
async def guarded_by_jwt(caller: Annotated[Principal, Depends(by_jwt)]) -> dict[str, str]:
    """For callers with a JWT."""
    return BODY
