"""A synchronous application with SQLModel, whose accounts are those of authapi."""

from sync_app.main import app
from sync_app.security import auth

__all__ = ["app", "auth"]
