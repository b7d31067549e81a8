"""authapi: a FastAPI REST API with pluggable authentication backends.

Importing applications need the names below: `AuthAPI` installs authapi into an application,
`current_user` and `current_identity` protect its routes, and `HTTPProtocol` is the protocol class
that uvicorn runs it with (`--http authapi:HTTPProtocol`). `strategies/base.py` explains how to
write a strategy, `settings/` lists what can be decided, `errors/` what can be refused.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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
    from authapi.web.server.protocol import HTTPProtocol

__all__ = [
    "AuthAPI",
    "Challenge",
    "HTTPProtocol",
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

_MODULES = {
    "app": ["AuthAPI", "create_app"],
    "identity": ["Identity", "User"],
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
    "web.resolver": ["current_identity", "current_user"],
    "web.server.protocol": ["HTTPProtocol"],
}

if not TYPE_CHECKING:  # or type checkers would take any name for one of ours

    def __getattr__(name: str) -> object:
        # Imported when asked for: a command needs no web framework, and would wait a second for it.
        for module, names in _MODULES.items():
            if name in names:
                found = getattr(import_module(f"authapi.{module}"), name)
                globals()[name] = found
                return found
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
