"""The decorators with which an application registers its hooks. `AuthAPI` inherits them."""

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar
from uuid import UUID

from starlette.requests import Request

from authapi.domain.events import EventType
from authapi.services import Services
from authapi.services.hooks import (
    BeforeDelete,
    ClaimsHook,
    EventHook,
    Hooks,
    MayProvision,
    PasswordRule,
    ProvisionHook,
    ScopesHook,
)
from authapi.services.identity_cache import announce_changes

_RequestHook = Callable[[Request, str], Coroutine[Any, Any, None]]

OnEvent = TypeVar("OnEvent", bound=EventHook)
OnDelete = TypeVar("OnDelete", bound=BeforeDelete)
OnRequest = TypeVar("OnRequest", bound=_RequestHook)
OnScopes = TypeVar("OnScopes", bound=ScopesHook)
OnPassword = TypeVar("OnPassword", bound=PasswordRule)
OnProvision = TypeVar("OnProvision", bound=ProvisionHook)
OnMayProvision = TypeVar("OnMayProvision", bound=MayProvision)
OnClaims = TypeVar("OnClaims", bound=ClaimsHook)


class HookDecorators:
    """Registers functions of the application that authapi calls.

    Each is an `async def`, runs for at most `database_timeout`, and is registered before the start
    of the application. Each decorator returns the function unchanged, and raises ConfigurationError
    if the function cannot be called with these arguments, or the application has started.
    """

    _hooks: Hooks
    _services: Services

    def on(self, *types: EventType) -> Callable[[OnEvent], OnEvent]:
        """Registers `async def hook(event, tx)` for events of these types.

        It runs in the transaction of the event: an error undoes the change, and is the response.
        """

        def register(hook: OnEvent) -> OnEvent:
            self._hooks.on(types, hook)
            return hook

        return register

    def before_delete(self, hook: OnDelete) -> OnDelete:
        """Registers `async def hook(user, tx)`, which runs before an account is deleted.

        It runs in the same transaction: an error keeps the account, and is the response.
        """
        self._hooks.before_delete(hook)
        return hook

    def before_register(self, hook: OnRequest) -> OnRequest:
        """Registers `async def hook(request, email)`, which runs before a registration.

        It runs after the rate limits, before the password is hashed, and outside of a transaction.
        `email` is the canonical address. An error refuses the registration.
        """
        self._hooks.before_register(hook)
        return hook

    def before_login(self, hook: OnRequest) -> OnRequest:
        """Registers `async def hook(request, email)`, which runs before a password is verified.

        It runs as hooks of `before_register` do: at `POST /login`, at the password grant of `POST
        /token`, and for each request with HTTP Basic. An error refuses the login.
        """
        self._hooks.before_login(hook)
        return hook

    def on_scopes(self, hook: OnScopes) -> OnScopes:
        """Registers `async def hook(user)`, which returns further scopes that the user has now.

        A cached caller keeps its scopes until `changed(user.id)` or `identity_cache_ttl`.
        """
        self._hooks.on_scopes(hook)
        return hook

    def password_policy(self, hook: OnPassword) -> OnPassword:
        """Registers `async def hook(password, email)`, a rule for new passwords.

        The rule raises PasswordRefused. It runs after the rules of authapi, with the normalized
        password and the canonical address.
        """
        self._hooks.password_policy(hook)
        return hook

    def claims(self, hook: OnClaims) -> OnClaims:
        """Registers `async def hook(user)`, which returns further members of a JWT for the user."""
        self._hooks.claims(hook)
        return hook

    def may_provision(self, hook: OnMayProvision) -> OnMayProvision:
        """Registers `async def hook(provider, claims)`, which returns a Boolean.

        It runs before an account is created for a person at a provider, outside of a transaction.
        If it returns False, no account is created: the response is `registration_closed`.
        """
        self._hooks.may_provision(hook)
        return hook

    def on_provision(self, hook: OnProvision) -> OnProvision:
        """Registers `async def hook(person)`, which returns a `Provision` or None.

        It runs while an account is created for a person at a provider, inside the transaction, and
        chooses the name and the roles. An error creates no account, and is the response.
        """
        self._hooks.on_provision(hook)
        return hook

    async def changed(self, *user_ids: UUID) -> None:
        """Makes every process forget cached callers of these users.

        Call this after a change of what a hook of `on_scopes` returns. In a transaction of authapi,
        `Transaction.changed` does the same at the commit. Raises StorageUnavailable if the database
        does not answer.
        """
        await announce_changes(self._services.database, user_ids)
