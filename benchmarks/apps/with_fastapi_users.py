"""fastapi-users as in its documentation, with SQLAlchemy and three back ends.

Each protected route has one back end: with several, it would try them in turn, one query each.
"""

import os
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, FastAPI
from fastapi_users import BaseUserManager, FastAPIUsers, UUIDIDMixin, schemas
from fastapi_users.authentication import (
    AuthenticationBackend,
    BearerTransport,
    CookieTransport,
    JWTStrategy,
)
from fastapi_users.authentication.strategy.db import AccessTokenDatabase, DatabaseStrategy
from fastapi_users.db import SQLAlchemyBaseUserTableUUID, SQLAlchemyUserDatabase
from fastapi_users_db_sqlalchemy.access_token import (
    SQLAlchemyAccessTokenDatabase,
    SQLAlchemyBaseAccessTokenTableUUID,
)
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase

from benchmarks.apps.body import BODY

SECRET = "only for a benchmark on loopback, 32+"
LIFETIME = 3600


class Base(DeclarativeBase):
    """The declarative base."""


class User(SQLAlchemyBaseUserTableUUID, Base):
    """The table of accounts."""


class AccessToken(SQLAlchemyBaseAccessTokenTableUUID, Base):
    """The table of access tokens."""


engine = create_async_engine(os.environ["DATABASE_URL"])
sessions = async_sessionmaker(engine, expire_on_commit=False)


class UserRead(schemas.BaseUser[uuid.UUID]):
    """The response of registration."""


class UserCreate(schemas.BaseUserCreate):
    """The request of registration."""


class UserManager(UUIDIDMixin, BaseUserManager[User, uuid.UUID]):
    """The user manager, without hooks."""

    reset_password_token_secret = SECRET
    verification_token_secret = SECRET


async def get_session() -> AsyncIterator[AsyncSession]:
    """Opens one database session per request."""
    async with sessions() as session:
        yield session


Session = Annotated[AsyncSession, Depends(get_session)]


async def get_user_db(session: Session) -> AsyncIterator[Any]:
    """Returns the database of accounts."""
    yield SQLAlchemyUserDatabase(session, User)


async def get_token_db(session: Session) -> AsyncIterator[Any]:
    """Returns the database of tokens."""
    yield SQLAlchemyAccessTokenDatabase(session, AccessToken)


async def get_user_manager(user_db: Annotated[Any, Depends(get_user_db)]) -> AsyncIterator[Any]:
    """Returns the user manager."""
    yield UserManager(user_db)


def database_strategy(
    tokens: Annotated[AccessTokenDatabase[AccessToken], Depends(get_token_db)],
) -> Any:
    """Returns the strategy with random tokens in a table."""
    return DatabaseStrategy(tokens, lifetime_seconds=LIFETIME)


def jwt_strategy() -> Any:
    """Returns the strategy with JWTs (HS256)."""
    return JWTStrategy(secret=SECRET, lifetime_seconds=LIFETIME)


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Creates the tables."""
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    yield
    await engine.dispose()


app = FastAPI(lifespan=lifespan)
TRANSPORTS = {
    "cookie": (CookieTransport(cookie_max_age=LIFETIME), database_strategy),
    "token": (BearerTransport(tokenUrl="auth/token/login"), database_strategy),
    "jwt": (BearerTransport(tokenUrl="auth/jwt/login"), jwt_strategy),
}
everything = FastAPIUsers[User, uuid.UUID](get_user_manager, [])
app.include_router(everything.get_register_router(UserRead, UserCreate), prefix="/auth")


@app.get("/plain")
async def plain() -> dict[str, str]:
    """The same route without authentication and middleware."""
    return BODY


def add(name: str) -> None:
    """Adds one back end with its login and its protected route."""
    transport, strategy = TRANSPORTS[name]
    backend: Any = AuthenticationBackend(name=name, transport=transport, get_strategy=strategy)
    users = FastAPIUsers[User, uuid.UUID](get_user_manager, [backend])
    app.include_router(users.get_auth_router(backend), prefix=f"/auth/{name}")
    caller = users.current_user(active=True)

    @app.get(f"/guarded/{name}")
    async def guarded(user: Annotated[User, Depends(caller)]) -> dict[str, str]:
        return BODY


for backend_name in TRANSPORTS:
    add(backend_name)
