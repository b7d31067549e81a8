"""The part of a transaction that belongs to the application: its own statements, on our connection.

authapi begins and ends the transaction. The application executes statements in it, which are
committed together with the change of authapi, or not at all.
"""

from typing import Any, NoReturn
from uuid import UUID

from sqlalchemy.engine import CursorResult
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
from sqlalchemy.sql import Executable

_OWNED = "authapi ends this transaction: return to commit it, raise an error to undo it"


class Transaction:
    """A transaction of authapi, for statements of the application.

    authapi commits it after the application has returned, and rolls it back after an error. The
    errors of SQLAlchemy that a statement raises reach the caller unchanged.
    """

    __slots__ = ("_changed", "_connection", "_session")

    def __init__(self, connection: AsyncConnection, changed: set[UUID]) -> None:
        self._connection = connection
        self._changed = changed
        self._session: AsyncSession | None = None

    async def execute(self, statement: Executable, parameters: Any = None) -> CursorResult[Any]:
        """Executes a statement of SQLAlchemy Core; returns its result.

        `parameters` are the bound values: a mapping, or a sequence of mappings to execute the
        statement for each. Pending changes of `session` are written first. Raises the errors of
        SQLAlchemy.
        """
        await self.flush()
        return await self._connection.execute(statement, parameters)

    @property
    def session(self) -> AsyncSession:
        """A session of SQLAlchemy ORM in this transaction, created on first use.

        authapi writes its pending changes before the commit. Its methods `commit`, `rollback`,
        `close`, `reset` and `invalidate` raise RuntimeError. `begin_nested` sets a savepoint.
        """
        if self._session is None:
            self._session = _Session(
                self._connection, expire_on_commit=False, join_transaction_mode="rollback_only"
            )
        return self._session

    def changed(self, *user_ids: UUID) -> None:
        """Makes every process forget cached callers of these users, after the commit.

        Call this if the transaction changes what `AuthAPI.on_scopes` returns for a user.
        """
        self._changed.update(user_ids)

    @property
    def has_session(self) -> bool:
        """Whether `session` was used, so that `flush` and `detach` have something to do."""
        return self._session is not None

    async def flush(self) -> None:
        """Writes the pending changes of `session`, if there are any. Raises as `execute`."""
        if self._session is not None:
            await self._session.flush()

    def detach(self) -> None:
        """Removes the objects of `session` from it. Call this at the end of the transaction."""
        if self._session is not None:
            self._session.expunge_all()


class _Session(AsyncSession):
    """A session that cannot end the transaction of its connection."""

    async def commit(self) -> NoReturn:
        raise RuntimeError(_OWNED)

    async def rollback(self) -> NoReturn:
        raise RuntimeError(_OWNED)

    async def close(self) -> NoReturn:
        raise RuntimeError(_OWNED)

    async def reset(self) -> NoReturn:
        raise RuntimeError(_OWNED)

    async def invalidate(self) -> NoReturn:
        raise RuntimeError(_OWNED)
