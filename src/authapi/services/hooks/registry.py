"""The hooks of one application: registered before the start, and run by the services."""

from collections.abc import Callable, Collection, Coroutine, Mapping
from functools import partial
from typing import Any, TypeAlias, TypeVar

from authapi.domain.events import Event, EventType
from authapi.domain.federation.person import Person, Provision
from authapi.domain.user import User
from authapi.errors import ConfigurationError
from authapi.services.hooks.provisions import checked_answer, merged_provision
from authapi.services.hooks.running import Hook, check_hook, name_of, run_hook
from authapi.services.hooks.values import as_json, checked_claims, checked_scopes
from authapi.storage import Transaction

T = TypeVar("T")

EventHook: TypeAlias = Callable[[Event, Transaction], Coroutine[Any, Any, None]]
BeforeDelete: TypeAlias = Callable[[User, Transaction], Coroutine[Any, Any, None]]
ScopesHook: TypeAlias = Callable[[User], Coroutine[Any, Any, Collection[str]]]
PasswordRule: TypeAlias = Callable[[str, str], Coroutine[Any, Any, None]]
ProvisionHook: TypeAlias = Callable[[Person], Coroutine[Any, Any, Provision | None]]
MayProvision: TypeAlias = Callable[[str, Mapping[str, object]], Coroutine[Any, Any, bool]]
ClaimsHook: TypeAlias = Callable[[User], Coroutine[Any, Any, Mapping[str, object]]]
_RequestHook: TypeAlias = Callable[[Any, str], Coroutine[Any, Any, None]]
"""Gets the request and the canonical address. The type of the request belongs to the web layer."""


class Hooks:
    """Registers and runs the hooks of one application.

    `timeout` bounds each run of a hook, in seconds. Each registration raises ConfigurationError if
    the hook is no `async def` with the right arguments, or `close` was called. Each run raises
    Unavailable if a hook exceeds the timeout, HookError if it returns an unusable value, and every
    error of the hook.
    """

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._is_closed = False
        self._events: dict[EventType, list[EventHook]] = {}
        self._before_delete: list[BeforeDelete] = []
        self._before_register: list[_RequestHook] = []
        self._before_login: list[_RequestHook] = []
        self._scopes: list[ScopesHook] = []
        self._password_rules: list[PasswordRule] = []
        self._claims: list[ClaimsHook] = []
        self._provisions: list[ProvisionHook] = []
        self._may_provision: list[MayProvision] = []

    def close(self) -> None:
        """Refuses further registrations: the services have started."""
        self._is_closed = True

    def on(self, types: Collection[EventType], hook: EventHook) -> None:
        """Registers a hook that runs in the transaction of each event of these types.

        Raises ConfigurationError without a type, and for a value that is no EventType.
        """
        if not types or not all(isinstance(kind, EventType) for kind in types):
            raise ConfigurationError("on() takes one or more members of EventType")
        self._check(hook, "event", "tx")
        for kind in dict.fromkeys(types):
            self._events.setdefault(kind, []).append(hook)

    def before_delete(self, hook: BeforeDelete) -> None:
        """Registers a hook that runs before an account is deleted, in the same transaction."""
        self._add(self._before_delete, hook, "user", "tx")

    def before_register(self, hook: _RequestHook) -> None:
        """Registers a hook that runs before a registration, outside of the transaction."""
        self._add(self._before_register, hook, "request", "email")

    def before_login(self, hook: _RequestHook) -> None:
        """Registers a hook that runs before a login, outside of a transaction."""
        self._add(self._before_login, hook, "request", "email")

    def on_scopes(self, hook: ScopesHook) -> None:
        """Registers a hook that returns further scopes of a user."""
        self._add(self._scopes, hook, "user")

    def password_policy(self, hook: PasswordRule) -> None:
        """Registers a rule for new passwords, which raises PasswordRefused."""
        self._add(self._password_rules, hook, "password", "email")

    def claims(self, hook: ClaimsHook) -> None:
        """Registers a hook that returns further members of a JWT for a user."""
        self._add(self._claims, hook, "user")

    def on_provision(self, hook: ProvisionHook) -> None:
        """Registers a hook that decides about an account for a person at a provider."""
        self._add(self._provisions, hook, "person")

    def may_provision(self, hook: MayProvision) -> None:
        """Registers a hook that returns whether a person at a provider may get an account."""
        self._add(self._may_provision, hook, "provider", "claims")

    @property
    def adds_scopes(self) -> bool:
        """Whether the application adds scopes to those of the settings."""
        return bool(self._scopes)

    @property
    def adds_claims(self) -> bool:
        """Whether the application adds members to JWTs."""
        return bool(self._claims)

    @property
    def checks_logins(self) -> bool:
        """Whether hooks run before logins."""
        return bool(self._before_login)

    @property
    def checks_deletions(self) -> bool:
        """Whether hooks run before deletions."""
        return bool(self._before_delete)

    @property
    def event_types(self) -> Collection[EventType]:
        """The types of events at which hooks run."""
        return self._events.keys()

    async def run_event(self, event: Event, tx: Transaction) -> None:
        """Runs the hooks of the type of `event`, in the order of their registration."""
        for hook in self._events.get(event.type, ()):
            await self._run_in_transaction(hook, event, tx)

    async def run_before_delete(self, user: User, tx: Transaction) -> None:
        """Runs the hooks before the deletion of `user`."""
        for hook in self._before_delete:
            await self._run_in_transaction(hook, user, tx)

    async def run_before_register(self, request: object, email: str) -> None:
        """Runs the hooks before a registration. Does nothing if `request` is None."""
        await self._run_request_hooks(self._before_register, request, email)

    async def run_before_login(self, request: object, email: str) -> None:
        """Runs the hooks before a login. Does nothing if `request` is None."""
        await self._run_request_hooks(self._before_login, request, email)

    async def own_scopes(self, user: User) -> frozenset[str] | None:
        """Returns the scopes that the application gives to `user` now; None without such hooks."""
        if not self._scopes:
            return None
        found = frozenset[str]()
        for hook in self._scopes:
            returned = await self._run(hook, user)
            found |= checked_scopes(returned, name_of(hook))
        return found

    async def check_password(self, password: str, email: str) -> None:
        """Runs the rules for a new password. Raises PasswordRefused."""
        for rule in self._password_rules:
            await self._run(rule, password, email)

    async def own_claims(self, user: User) -> Mapping[str, object]:
        """Returns the members that the application adds to a JWT for `user`."""
        members: dict[str, object] = {}
        for hook in self._claims:
            returned = await self._run(hook, user)
            members |= checked_claims(returned, name_of(hook), present=members)
        return as_json(members)

    async def provision(self, person: Person) -> Provision:
        """Returns the name and roles of an account for `person`, inside the transaction.

        Of several hooks, the last one that sets a name or roles decides about it.
        """
        decided = Provision()
        for hook in self._provisions:
            decided = merged_provision(decided, await self._run(hook, person), name_of(hook))
        return decided

    async def may_provision_person(self, person: Person) -> bool:
        """Returns whether `person` may get an account: all hooks must return True."""
        for hook in self._may_provision:
            if not checked_answer(
                await self._run(hook, person.provider, person.claims), name_of(hook)
            ):
                return False
        return True

    async def _run_in_transaction(self, hook: Hook, subject: object, tx: Transaction) -> None:
        async def call() -> None:
            await hook(subject, tx)
            # Now, so that the errors of pending rows are errors of this hook.
            await tx.flush()

        await run_hook(hook, call, limit=self._timeout)

    async def _run(self, hook: Callable[..., Coroutine[Any, Any, T]], *arguments: object) -> T:
        return await run_hook(hook, partial(hook, *arguments), limit=self._timeout)

    async def _run_request_hooks(
        self, hooks: Collection[_RequestHook], request: object, email: str
    ) -> None:
        if request is not None:
            for hook in hooks:
                await self._run(hook, request, email)

    def _add(self, hooks: list[Any], hook: Hook, *arguments: str) -> None:
        self._check(hook, *arguments)
        hooks.append(hook)

    def _check(self, hook: Hook, *arguments: str) -> None:
        if self._is_closed:
            raise ConfigurationError(
                f"the hook {name_of(hook)} is registered after the start: "
                "register hooks where AuthAPI() is created"
            )
        check_hook(hook, *arguments)
