"""The application: the routes of authapi, those of the items, and the storefront."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from async_app import items, storefront
from async_app.accounts import auth
from async_app.database import engine

__all__ = ["app", "auth"]


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Starts and stops authapi, and closes the engine afterwards."""
    async with auth.lifespan(app):
        yield
    await engine.dispose()


app = FastAPI(title="Items", lifespan=lifespan)
auth.install(app, prefix="/api/v1/auth")
app.include_router(items.router, prefix="/api/v1")
app.mount("/store", storefront.app)
