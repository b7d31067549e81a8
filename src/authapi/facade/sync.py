"""`auth.sync`: the facade for `def` handlers, task queues and management commands."""

import logging
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from uuid import UUID

from authapi.domain.user import User
from authapi.facade.accounts import Accounts, Join
from authapi.facade.threads import ServiceThread, Target
from authapi.services import Services
from authapi.storage import (
    BorrowedConnection,
    CallerThread,
    Session,
    Store,
    joining,
    savepoint,
    session_joins,
)

if TYPE_CHECKING:
    from starlette.requests import Request

    from authapi.web.context import Runtime
    from authapi.web.routes.login.password import LogIn

_log = logging.getLogger(__name__)

T = TypeVar("T")


class SyncAccounts:
    """`Accounts` for synchronous code: the same methods, arguments, results and errors.

    Each call also raises RuntimeError in a thread that runs an event loop, which it would block.
    """

    def __init__(self, run: "_Run") -> None:
        self._run = run

    def create(
        self,
        email: str,
        password: str | None = None,
        *,
        name: str | None = None,
        username: str | None = None,
        is_superuser: bool = False,
        profile: Mapping[str, object] | None = None,
    ) -> User:
        """Creates an account. Raises EmailTaken, UsernameTaken, ProfileTaken, Overloaded."""
        return self._run(
            lambda accounts: accounts.create(
                email,
                password,
                name=name,
                username=username,
                is_superuser=is_superuser,
                profile=profile,
            )
        )

    def invite(
        self,
        email: str,
        *,
        name: str | None = None,
        username: str | None = None,
        roles: Collection[str] = (),
        profile: Mapping[str, object] | None = None,
    ) -> User:
        """Invites the owner of an address.

        Raises EmailTaken, UsernameTaken, ProfileTaken, MailDisabled.
        """
        return self._run(
            lambda accounts: accounts.invite(
                email, name=name, username=username, roles=roles, profile=profile
            )
        )

    def find(self, user_id: UUID) -> User:
        """Returns the account with this id. Raises NotFound."""
        return self._run(lambda accounts: accounts.find(user_id))

    def find_by_email(self, email: str) -> User:
        """Returns the account with this address. Raises NotFound."""
        return self._run(lambda accounts: accounts.find_by_email(email))

    def find_by_username(self, username: str) -> User:
        """Returns the account with this user name. Raises NotFound."""
        return self._run(lambda accounts: accounts.find_by_username(username))

    def rename(self, user_id: UUID, name: str | None) -> User:
        """Changes the name of an account, or removes it; returns the account. Raises NotFound."""
        return self._run(lambda accounts: accounts.rename(user_id, name))

    def set_username(self, user_id: UUID, username: str | None) -> User:
        """Changes or removes the user name of an account. Raises NotFound, UsernameTaken."""
        return self._run(lambda accounts: accounts.set_username(user_id, username))

    def set_roles(self, user_id: UUID, roles: Collection[str]) -> User:
        """Replaces the roles of an account; returns the account. Raises NotFound."""
        return self._run(lambda accounts: accounts.set_roles(user_id, roles))

    def set_superuser(self, user_id: UUID, is_superuser: bool) -> User:
        """Grants or revokes superuser; returns the account. Raises NotFound, LastSuperuser."""
        return self._run(lambda accounts: accounts.set_superuser(user_id, is_superuser))

    def activate(self, user_id: UUID) -> User:
        """Activates an account; returns it. Raises NotFound."""
        return self._run(lambda accounts: accounts.activate(user_id))

    def deactivate(self, user_id: UUID) -> User:
        """Deactivates an account, and ends its sessions. Raises NotFound, LastSuperuser."""
        return self._run(lambda accounts: accounts.deactivate(user_id))

    def confirm_email(self, user_id: UUID) -> User:
        """Marks the address of an account as confirmed; returns the account. Raises NotFound."""
        return self._run(lambda accounts: accounts.confirm_email(user_id))

    def change_email(self, user_id: UUID, email: str) -> User:
        """Gives an account another address, as `Accounts.change_email`.

        Raises NotFound, EmailTaken, PreconditionFailed.
        """
        return self._run(lambda accounts: accounts.change_email(user_id, email))

    def set_password(self, user_id: UUID, password: str) -> None:
        """Sets the password of an account, and ends its sessions. Raises NotFound, Overloaded."""
        self._run(lambda accounts: accounts.set_password(user_id, password))

    def end_sessions(self, user_id: UUID) -> int:
        """Ends all sessions and tokens of an account; returns their number. Raises NotFound."""
        return self._run(lambda accounts: accounts.end_sessions(user_id))

    def delete(self, user_id: UUID) -> None:
        """Deletes an account. Raises NotFound, LastSuperuser, AccountInUse."""
        self._run(lambda accounts: accounts.delete(user_id))


class SyncTransaction:
    """The services of authapi in the transaction of a Session of the application."""

    def __init__(self, accounts: SyncAccounts) -> None:
        self.accounts = accounts


class Sync:
    """The services of authapi for code without an event loop.

    Calls run on the event loop of the running application, or on one in a thread of their own, and
    block the caller. After a fork, the child opens connections of its own.
    """

    def __init__(self, thread: ServiceThread, runtime: "Runtime") -> None:
        self._thread = thread
        self._runtime = runtime
        self.accounts = SyncAccounts(_Direct(thread))

    @contextmanager
    def transaction(self, session: Session) -> Iterator[SyncTransaction]:
        """Joins the transaction of `session`: the application commits it, or rolls it back.

        Each call of `accounts` is a savepoint: after an error, only that call is undone. Events are
        logged, and caches invalidated, when the Session commits.

        Raises ConfigurationError if the Session has another driver than psycopg or sqlite3, is in
        autocommit mode, does not use READ COMMITTED, has foreign keys off on SQLite, or is
        connected to another database; nothing is changed then. Raises TypeError for anything but a
        synchronous Session, RuntimeError on an event loop, and the errors of SQLAlchemy.
        """
        target = self._thread.target()
        connection = session_joins.connection_of(session)
        ours = target.run(lambda services: services.database.identity())
        session_joins.check_same(session_joins.identity_of(connection), ours)
        session_joins.begin(connection)
        caller = CallerThread()
        store = target.services.database.borrow(BorrowedConnection(connection, caller))

        def end(is_committed: bool) -> None:
            async def follow(services: Services) -> None:
                services.database.end_borrowed(store, is_committed=is_committed)

            try:
                target.run(follow)
            except RuntimeError:
                # The Session has ended, which must not look as if it had failed.
                _log.exception("events and caches could not follow the end of a Session")

        session_joins.on_end(session, end)
        run = _Joined(target, caller, store, session)
        try:
            yield SyncTransaction(SyncAccounts(run))
        finally:
            run.is_open = False

    def log_in(
        self,
        request: "Request",
        email: str,
        password: str,
        *,
        strategy: str | None = None,
        remember: bool = False,
    ) -> "LogIn":
        """Logs a user in, as `AuthAPI.log_in` does, and raises the same errors.

        Also raises RuntimeError if the application is not running in this process.
        """
        from authapi.web.routes.login.password import log_in_by_form  # noqa: PLC0415  # with the web framework

        return self._thread.serving_target().run(
            lambda _: log_in_by_form(
                self._runtime, request, email, password, strategy=strategy, remember=remember
            )
        )

    def prove_second_factor(
        self,
        request: "Request",
        *,
        ticket: str | None = None,
        code: str | None = None,
        recovery_code: str | None = None,
        passkey: Mapping[str, object] | None = None,
    ) -> "LogIn":
        """Completes a login, as `AuthAPI.prove_second_factor` does, and raises the same errors.

        Also raises RuntimeError if the application is not running in this process.
        """
        from authapi.web.routes.login.second_factor import (  # noqa: PLC0415  # with the web framework
            prove_second_factor_by_form,
        )

        return self._thread.serving_target().run(
            lambda _: prove_second_factor_by_form(
                self._runtime,
                request,
                ticket=ticket,
                code=code,
                recovery_code=recovery_code,
                passkey=passkey,
            )
        )

    def second_factor_options(
        self, request: "Request", *, ticket: str | None = None
    ) -> dict[str, Any]:
        """Returns options, as `AuthAPI.second_factor_options` does, and raises the same errors.

        Also raises RuntimeError if the application is not running in this process.
        """
        from authapi.web.routes.login.second_factor import (  # noqa: PLC0415  # with the web framework
            passkey_options_by_form,
        )

        return self._thread.serving_target().run(
            lambda _: passkey_options_by_form(self._runtime, request, ticket=ticket)
        )

    def close(self) -> None:
        """Closes the thread and the connections that earlier calls have opened, if any."""
        self._thread.close()


class _Run(Protocol):
    """Runs one call of `Accounts` and waits for its result."""

    def __call__(self, work: Callable[[Accounts], Coroutine[Any, Any, T]]) -> T: ...


class _Direct:
    """Each call is a transaction of its own."""

    def __init__(self, thread: ServiceThread) -> None:
        self._thread = thread

    def __call__(self, work: Callable[[Accounts], Coroutine[Any, Any, T]]) -> T:
        return self._thread.target().run(lambda services: work(Accounts(services)))


class _Joined:
    """Each call is a savepoint in the transaction of a Session."""

    def __init__(
        self, target: Target, caller: CallerThread, store: Store, session: Session
    ) -> None:
        self._target, self._caller, self._store = target, caller, store
        self._session, self._transaction = session, session.get_transaction()
        self.is_open = True

    def __call__(self, work: Callable[[Accounts], Coroutine[Any, Any, T]]) -> T:
        if not self.is_open or self._session.get_transaction() is not self._transaction:
            raise RuntimeError("this transaction has ended: call auth.sync.transaction() again")
        self._session.flush()
        return self._target.run(lambda services: self._call(services, work), self._caller)

    async def _call(
        self, services: Services, work: Callable[[Accounts], Coroutine[Any, Any, T]]
    ) -> T:
        database, store = services.database, self._store
        async with savepoint(store):
            result = await work(Accounts(services, self._join(services)))
            if store.changed:
                await database.notifications.notify(store.connection, store.changed)
        return result

    def _join(self, services: Services) -> Join:
        @asynccontextmanager
        async def join() -> AsyncIterator[None]:
            with joining(services.database, self._store):
                yield

        return join
