"""authapi: a FastAPI REST API with pluggable authentication backends.

Importing applications need the names below: `AuthAPI` installs authapi into an application, and
`current_user` and `current_identity` protect its routes. `strategies/base.py` explains how to write
a strategy, `settings/` lists what can be decided, `errors/` what can be refused.
"""

from authapi.app import AuthAPI, create_app
from authapi.identity import Identity, User
from authapi.settings import Settings
from authapi.strategies.base import (
    Challenge,
    Issued,
    Issuer,
    Renewable,
    Renewal,
    Revocable,
    Strategy,
)
from authapi.web.resolver import current_identity, current_user

__all__ = [
    "AuthAPI",
    "Challenge",
    "Identity",
    "Issued",
    "Issuer",
    "Renewable",
    "Renewal",
    "Revocable",
    "Settings",
    "Strategy",
    "User",
    "create_app",
    "current_identity",
    "current_user",
]
