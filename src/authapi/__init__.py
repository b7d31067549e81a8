"""authapi: authentication for FastAPI, as a service or as a package.

Applications import the names below. `AuthAPI` installs authapi into an application, `current_user`
and `current_identity` protect its routes, and `HTTPProtocol` is the protocol class for uvicorn
(`--http authapi:HTTPProtocol`). `strategies/base.py` explains how to write a strategy, `settings/`
defines the settings, and `errors/` the errors. `Accounts`, `AccountTransaction` and `Sync` are what
code of the application calls; `AuthAPI` has one of each.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from authapi.app import AuthAPI, Service, create_app
    from authapi.crypto.secrets import SecretHash, hash_secret, is_opaque_token
    from authapi.domain.events import Event, EventType
    from authapi.domain.federation.person import Person, Provision
    from authapi.domain.identity import Identity
    from authapi.domain.session import SessionKind
    from authapi.domain.user import User
    from authapi.errors import (
        AccountInUse,
        AuthAPIError,
        ConfigurationError,
        EmailTaken,
        EnrolmentRequired,
        Forbidden,
        InputError,
        InvalidCredential,
        InvalidCredentials,
        InvalidInput,
        LastSuperuser,
        LoginExpired,
        MailDisabled,
        NotFound,
        Overloaded,
        PasswordRefused,
        PreconditionFailed,
        Refusal,
        SecondFactorRefused,
        SecondFactorRequired,
        StorageUnavailable,
        TooManyAttempts,
        Unauthenticated,
        Unavailable,
        UsernameTaken,
    )
    from authapi.facade.accounts import Accounts, AccountTransaction
    from authapi.facade.sync import Sync, SyncAccounts, SyncTransaction
    from authapi.outbound.upstreams.provider import Provider
    from authapi.settings import Settings
    from authapi.storage.application.profile import Profile
    from authapi.storage.application.transaction import Transaction
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
    from authapi.web.routes.login.password import LogIn
    from authapi.web.server.protocol import HTTPProtocol
    from authapi.web.sockets.live import identity_is_live, live_messages

__all__ = [
    "AccountInUse",
    "AccountTransaction",
    "Accounts",
    "AuthAPI",
    "AuthAPIError",
    "Challenge",
    "ConfigurationError",
    "EmailTaken",
    "EnrolmentRequired",
    "Event",
    "EventType",
    "Forbidden",
    "HTTPProtocol",
    "Identity",
    "InputError",
    "InvalidCredential",
    "InvalidCredentials",
    "InvalidInput",
    "Issued",
    "Issuer",
    "LastSuperuser",
    "LogIn",
    "LoginExpired",
    "MailDisabled",
    "NotFound",
    "Overloaded",
    "PasswordRefused",
    "Person",
    "PreconditionFailed",
    "Profile",
    "Provider",
    "Provision",
    "Refusal",
    "Renewable",
    "Renewal",
    "Revocable",
    "SecondFactorRefused",
    "SecondFactorRequired",
    "SecretHash",
    "Service",
    "SessionKind",
    "Settings",
    "StorageUnavailable",
    "Strategy",
    "Sync",
    "SyncAccounts",
    "SyncTransaction",
    "TooManyAttempts",
    "Transaction",
    "Unauthenticated",
    "Unavailable",
    "User",
    "UsernameTaken",
    "create_app",
    "current_identity",
    "current_user",
    "hash_secret",
    "identity_is_live",
    "is_opaque_token",
    "live_messages",
]

_MODULES = {
    "app": ["AuthAPI", "Service", "create_app"],
    "crypto.secrets": ["SecretHash", "hash_secret", "is_opaque_token"],
    "domain.events": ["Event", "EventType"],
    "domain.federation.person": ["Person", "Provision"],
    "domain.identity": ["Identity"],
    "domain.session": ["SessionKind"],
    "domain.user": ["User"],
    "errors": [
        "AccountInUse",
        "AuthAPIError",
        "ConfigurationError",
        "EmailTaken",
        "EnrolmentRequired",
        "Forbidden",
        "InputError",
        "InvalidCredential",
        "InvalidCredentials",
        "InvalidInput",
        "LastSuperuser",
        "LoginExpired",
        "MailDisabled",
        "NotFound",
        "Overloaded",
        "PasswordRefused",
        "PreconditionFailed",
        "Refusal",
        "SecondFactorRefused",
        "SecondFactorRequired",
        "StorageUnavailable",
        "TooManyAttempts",
        "Unauthenticated",
        "Unavailable",
        "UsernameTaken",
    ],
    "facade.accounts": ["AccountTransaction", "Accounts"],
    "facade.sync": ["Sync", "SyncAccounts", "SyncTransaction"],
    "outbound.upstreams.provider": ["Provider"],
    "settings": ["Settings"],
    "storage.application.transaction": ["Transaction"],
    "strategies.base": [
        "Challenge",
        "Issued",
        "Issuer",
        "Renewable",
        "Renewal",
        "Revocable",
        "Strategy",
    ],
    "web.routes.login.password": ["LogIn"],
    "storage.application.profile": ["Profile"],
    "web.resolver": ["current_identity", "current_user"],
    "web.server.protocol": ["HTTPProtocol"],
    "web.sockets.live": ["identity_is_live", "live_messages"],
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
