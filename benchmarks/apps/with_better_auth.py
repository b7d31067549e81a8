"""better-auth-server, the port of better-auth to Python, as in its documentation.

With `COOKIE_CACHE=1`, its signed cookie cache is enabled, with which a request needs no query.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from better_auth import BetterAuth, EmailAndPassword, RateLimit, SessionOptions
from better_auth.adapters.sqlalchemy import SQLAlchemyAdapter
from better_auth.config import CookieCache
from better_auth.integrations.fastapi import BetterAuthFastAPI
from fastapi import Depends, FastAPI
from sqlalchemy.ext.asyncio import create_async_engine

from benchmarks.apps.body import BODY

engine = create_async_engine(os.environ["DATABASE_URL"])
adapter = SQLAlchemyAdapter(engine)
auth = BetterAuth(
    secret="only for a benchmark on loopback, 32+",
    base_url=os.environ["BASE_URL"],
    adapter=adapter,
    email_and_password=EmailAndPassword(enabled=True),
    session=SessionOptions(cookie_cache=CookieCache(enabled=os.environ["COOKIE_CACHE"] == "1")),
    # The default of three logins in ten seconds is too low for the benchmark.
    rate_limit=RateLimit(enabled=False),
)
better_auth = BetterAuthFastAPI(auth)


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Creates the tables."""
    await adapter.create_tables()
    yield
    await engine.dispose()


app = FastAPI(lifespan=lifespan)
app.include_router(better_auth.router)


@app.get("/plain")
async def plain() -> dict[str, str]:
    """The same route without authentication and middleware."""
    return BODY


@app.get("/guarded")
async def guarded(
    caller: Annotated[dict[str, Any], Depends(better_auth.require_session)],
) -> dict[str, str]:
    """A route for callers with a session cookie, or with the token of a session."""
    return BODY
