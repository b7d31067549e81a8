"""The look-up of a session by hand, in a bare FastAPI route: no library, and no check of authapi.

It reads the tables of authapi with psycopg and its pool: one prepared statement, which finds a
session and its user by the hash of the cookie. It keeps no caller in memory, and neither limits nor
records a request. That is the least that a route with sessions in PostgreSQL does.
"""

import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from fastapi import FastAPI, HTTPException, Request
from psycopg_pool import AsyncConnectionPool

from benchmarks.apps.body import BODY

QUERY = """
SELECT s.id, s.user_id, s.kind, s.name, s.scopes, s.created_at, s.last_seen_at, s.idle_expires_at,
       s.expires_at, s.auth_time, s.amr, s.ip, s.user_agent, s.data, u.email_given, u.name,
       u.is_active, u.is_superuser, u.email_confirmed_at, u.created_at, u.updated_at
  FROM authapi_sessions s JOIN authapi_users u ON u.id = s.user_id
 WHERE s.secret_hash = %s AND s.kind = 'session'
"""
EXPIRES_AT, IDLE_EXPIRES_AT, IS_ACTIVE = 8, 7, 16

pool = AsyncConnectionPool(
    os.environ["DATABASE_URL"],
    kwargs={"autocommit": True},
    min_size=10,
    max_size=10,  # the default of authapi
    open=False,
)


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Opens the pool, with all of its connections."""
    async with pool:
        await pool.wait()
        yield


app = FastAPI(openapi_url=None, lifespan=lifespan)


@app.get("/plain")
async def plain() -> dict[str, str]:
    """A route without a look-up."""
    return BODY


@app.get("/guarded")
async def guarded(request: Request) -> dict[str, str]:
    """A route for callers with a session."""
    digest = hashlib.sha256(request.cookies.get("authapi", "").encode()).digest()
    async with pool.connection() as connection:
        cursor = await connection.execute(QUERY, (digest,), prepare=True)
        row = await cursor.fetchone()
    now = datetime.now(UTC)
    if row is None or not row[IS_ACTIVE] or now >= row[EXPIRES_AT] or now >= row[IDLE_EXPIRES_AT]:
        raise HTTPException(401)
    return BODY
