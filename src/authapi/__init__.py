"""authapi: authentication for FastAPI, as a service or as a package.

Applications import the names below. `AuthAPI` installs authapi into an application, `current_user`
and `current_identity` protect its routes, and `HTTPProtocol` is the protocol class for uvicorn
(`--http authapi:HTTPProtocol`). `strategies/base.py` explains how to write a strategy, `settings/`
defines the settings, and `errors/` the errors.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from authapi.app import AuthAPI, create_app
    from authapi.domain.events import Event, EventType
    from authapi.domain.identity import Identity
    from authapi.domain.user import User
    from authapi.errors import PasswordRefused
    from authapi.settings import Settings
    from authapi.storage.schema.profile import Profile
    from authapi.storage.transaction import Transaction
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
    from authapi.web.server.protocol import HTTPProtocol

__all__ = [
    "AuthAPI",
    "Challenge",
    "Event",
    "EventType",
    "HTTPProtocol",
    "Identity",
    "Issued",
    "Issuer",
    "PasswordRefused",
    "Profile",
    "Renewable",
    "Renewal",
    "Revocable",
    "Settings",
    "Strategy",
    "Transaction",
    "User",
    "create_app",
    "current_identity",
    "current_user",
]

_MODULES = {
    "app": ["AuthAPI", "create_app"],
    "domain.events": ["Event", "EventType"],
    "domain.identity": ["Identity"],
    "domain.user": ["User"],
    "errors": ["PasswordRefused"],
    "settings": ["Settings"],
    "strategies.base": [
        "Challenge",
        "Issued",
        "Issuer",
        "Renewable",
        "Renewal",
        "Revocable",
        "Strategy",
    ],
    "storage.schema.profile": ["Profile"],
    "storage.transaction": ["Transaction"],
    "web.resolver": ["current_identity", "current_user"],
    "web.server.protocol": ["HTTPProtocol"],
}

if not TYPE_CHECKING:  # type checkers would accept every name as an attribute of this module

    def __getattr__(name: str) -> object:
        # Imported on first access: a CLI command does not need the web framework, and importing
        # that takes about a second.
        for module, names in _MODULES.items():
            if name in names:
                value = getattr(import_module(f"authapi.{module}"), name)
                globals()[name] = value
                return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
