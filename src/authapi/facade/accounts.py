"""`Accounts`: what code of the application does with accounts, without a request."""

from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from contextvars import ContextVar
from uuid import UUID

from authapi.domain.display_names import is_display_name, is_single_line
from authapi.domain.email_address import EmailAddress, parse_email
from authapi.domain.user import User
from authapi.domain.username import Username, parse_username
from authapi.errors import InputError, InvalidInput
from authapi.services import Services
from authapi.services.accounts.administration import AccountChanges
from authapi.services.own_columns import ProfileInput
from authapi.storage import Store, Transaction, joining

_MAX_NAME_LENGTH = 200
_open_transaction: ContextVar[object] = ContextVar("authapi_open_transaction", default=None)
"""The services whose `transaction()` this task is inside of, or None."""

Join = Callable[[], AbstractAsyncContextManager[None]]
"""Returns a block inside which the services join a transaction."""


class Accounts:
    """Creates, finds, changes and deletes accounts, as an operator does.

    Addresses are texts. The rules are those of the API: the password policy, unique addresses, one
    remaining superuser. Each change records its security event, and takes effect in all processes.

    Each call raises StorageUnavailable if the database does not answer, InvalidInput for an
    address, name, role, password or profile that is not valid, TypeError if `user_id` is not a
    UUID, and the errors of the hooks of the application.
    Outside of `auth.transaction()`, each call is a transaction of its own, and raises RuntimeError
    inside such a block: `tx.accounts` is meant there.
    """

    def __init__(self, services: Services, join: Join | None = None) -> None:
        self._services = services
        self._join = join

    async def create(
        self,
        email: str,
        password: str | None = None,
        *,
        name: str | None = None,
        username: str | None = None,
        is_superuser: bool = False,
        profile: Mapping[str, object] | None = None,
    ) -> User:
        """Creates an account; without a password, no login to it is possible.

        `profile` has the JSON of own columns, which by default have the defaults of their model.

        Raises EmailTaken, UsernameTaken, ProfileTaken, and Overloaded if too many passwords are
        being hashed.
        """
        checked, login_name = _name(name), _username_or_none(username)
        async with self._joined() as services:
            address = _address(email, services)
            return await services.accounts.registration.create(
                address,
                password,
                name=checked,
                username=login_name,
                is_superuser=is_superuser,
                profile=_profile(services, profile),
            )

    async def invite(
        self,
        email: str,
        *,
        name: str | None = None,
        username: str | None = None,
        roles: Collection[str] = (),
        profile: Mapping[str, object] | None = None,
    ) -> User:
        """Creates an account without a password, and mails its owner a link to choose one.

        `profile` is that of `create`. Raises EmailTaken, UsernameTaken, ProfileTaken, and
        MailDisabled if the settings disable mail.
        """
        checked, login_name = _name(name), _username_or_none(username)
        async with self._joined() as services:
            address = _address(email, services)
            return await services.accounts.administration.invite(
                address,
                name=checked,
                username=login_name,
                roles=roles,
                profile=_profile(services, profile),
            )

    async def find(self, user_id: UUID) -> User:
        """Returns the account with this id. Raises NotFound."""
        _check_id(user_id)
        async with self._joined() as services:
            return await services.accounts.profiles.find(user_id)

    async def find_by_email(self, email: str) -> User:
        """Returns the account with this address. Raises NotFound."""
        async with self._joined() as services:
            address = _address(email, services)
            return await services.accounts.profiles.find_by_email(address)

    async def find_by_username(self, username: str) -> User:
        """Returns the account with this user name. Raises NotFound."""
        name = _username(username)
        async with self._joined() as services:
            return await services.accounts.profiles.find_by_username(name)

    async def rename(self, user_id: UUID, name: str | None) -> User:
        """Changes the name of an account, or removes it; returns the account. Raises NotFound."""
        return await self._change(user_id, AccountChanges(name=_name(name)))

    async def set_username(self, user_id: UUID, username: str | None) -> User:
        """Changes the user name of an account, or removes it; returns the account.

        Raises NotFound, UsernameTaken.
        """
        return await self._change(user_id, AccountChanges(username=_username_or_none(username)))

    async def set_roles(self, user_id: UUID, roles: Collection[str]) -> User:
        """Replaces the roles of an account; returns the account. Raises NotFound."""
        return await self._change(user_id, AccountChanges(roles=frozenset(roles)))

    async def set_superuser(self, user_id: UUID, is_superuser: bool) -> User:
        """Grants or revokes superuser; returns the account. Raises NotFound, LastSuperuser."""
        return await self._change(user_id, AccountChanges(is_superuser=is_superuser))

    async def activate(self, user_id: UUID) -> User:
        """Activates an account; returns it. Its ended sessions stay ended. Raises NotFound."""
        return await self._change(user_id, AccountChanges(is_active=True))

    async def deactivate(self, user_id: UUID) -> User:
        """Deactivates an account, and ends its sessions, tokens and mailed links; returns it.

        Raises NotFound, LastSuperuser.
        """
        return await self._change(user_id, AccountChanges(is_active=False))

    async def confirm_email(self, user_id: UUID) -> User:
        """Marks the address of an account as confirmed; returns the account. Raises NotFound.

        The application vouches for the address. With `registration=confirm`, an account can log in
        only after that.
        """
        _check_id(user_id)
        async with self._joined() as services:
            return await services.accounts.email_changes.confirm_for_operator(user_id)

    async def change_email(self, user_id: UUID, email: str) -> User:
        """Gives an account another address, which counts as confirmed; returns the account.

        The application vouches for the address. Mailed links of the account end. A confirmed
        previous address gets a mail with a link that reverts the change.

        Raises NotFound, EmailTaken, and PreconditionFailed if the account gets another address at
        the same time.
        """
        _check_id(user_id)
        async with self._joined() as services:
            address = _address(email, services)
            return await services.accounts.email_changes.change_for_operator(user_id, address)

    async def set_password(self, user_id: UUID, password: str) -> None:
        """Sets the password of an account, and ends all its sessions and tokens.

        Raises NotFound, and Overloaded if too many passwords are being hashed.
        """
        _check_id(user_id)
        async with self._joined() as services:
            await services.accounts.passwords.set(user_id, password)

    async def end_sessions(self, user_id: UUID) -> int:
        """Ends all sessions and tokens of an account; returns their number. Raises NotFound."""
        _check_id(user_id)
        async with self._joined() as services:
            return await services.accounts.administration.end_sessions(user_id)

    async def delete(self, user_id: UUID) -> None:
        """Deletes an account with all that belongs to it.

        Raises NotFound, LastSuperuser, and AccountInUse if a row of the application refers to it.
        """
        _check_id(user_id)
        async with self._joined() as services:
            await services.accounts.deletion.delete(user_id)

    async def _change(self, user_id: UUID, changes: AccountChanges) -> User:
        _check_id(user_id)
        async with self._joined() as services:
            return await services.accounts.administration.change(user_id, changes)

    @asynccontextmanager
    async def _joined(self) -> AsyncIterator[Services]:
        if self._join is None:
            if _open_transaction.get() is self._services:
                raise RuntimeError("inside auth.transaction(), call tx.accounts instead")
            yield self._services
            return
        async with self._join():
            yield self._services


class AccountTransaction(Transaction):
    """One transaction for changes of accounts and for statements of the application.

    It is committed at the end of its block; an error undoes all of it. `execute` and `session` are
    for the tables of the application. An error of a call of `accounts` undoes that call only, if
    the application catches it. After the block, `accounts` raises RuntimeError.
    """

    __slots__ = ("_is_open", "_services", "_store", "accounts")

    def __init__(self, services: Services, store: Store) -> None:
        super().__init__(store.connection, store.changed)
        self._services, self._store, self._is_open = services, store, True
        self.accounts = Accounts(services, self.joined)

    def end(self) -> None:
        """Makes further calls of `accounts` fail: the transaction has ended."""
        self._is_open = False

    @asynccontextmanager
    async def joined(self) -> AsyncIterator[None]:
        """Makes the services use this transaction inside the block.

        Raises RuntimeError if the transaction has ended.
        """
        if not self._is_open:
            raise RuntimeError("this transaction has ended")
        await self.flush()
        with joining(self._services.database, self._store):
            yield


@asynccontextmanager
async def open_transaction(services: Services) -> AsyncIterator[AccountTransaction]:
    """Opens a transaction, which is committed at the end of the block.

    Raises StorageUnavailable if the database does not answer, or the block takes too long, and
    RuntimeError inside another block.
    """
    if _open_transaction.get() is services:
        raise RuntimeError("auth.transaction() is open already: use its tx")
    async with services.database.transaction() as store:
        transaction = AccountTransaction(services, store)
        token = _open_transaction.set(services)
        try:
            yield transaction
            await transaction.flush()
        finally:
            transaction.end()
            transaction.detach()
            _open_transaction.reset(token)


def _address(text: object, services: Services) -> EmailAddress:
    allow_reserved = services.settings.allow_reserved_addresses
    given = text if isinstance(text, str) else ""
    return parse_email(given, loc=("email",), allow_reserved=allow_reserved)


def _name(text: object) -> str | None:
    if text is None:
        return None
    if (
        isinstance(text, str)
        and 0 < len(text) <= _MAX_NAME_LENGTH
        and is_single_line(text)
        and is_display_name(text)
    ):
        return text
    message = f"must have 1 to {_MAX_NAME_LENGTH} characters, and no control characters"
    raise InvalidInput(InputError(("name",), "name_invalid", message))


def _username(text: object) -> Username:
    return parse_username(text if isinstance(text, str) else "", loc=("username",))


def _username_or_none(text: object) -> Username | None:
    return None if text is None else _username(text)


def _profile(services: Services, given: object) -> ProfileInput | None:
    if given is None:
        return None
    # pydantic accepts no other mapping than a dict.
    return services.own_columns.parse(dict(given) if isinstance(given, Mapping) else given)


def _check_id(user_id: object) -> None:
    if not isinstance(user_id, UUID):
        raise TypeError(f"user_id must be a UUID, not {type(user_id).__name__}")
