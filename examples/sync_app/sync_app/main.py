"""The application."""

from fastapi import FastAPI

from sync_app import items, login, users
from sync_app.security import auth

app = FastAPI(title="Items", lifespan=auth.lifespan)
auth.install(app)
for module in (login, items, users):
    app.include_router(module.router)
