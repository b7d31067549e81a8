"""Records which rows each transaction locks on PostgreSQL, in which order, and checks the order.

Statements are inspected before they run: the rows that they select `FOR UPDATE`, change or delete,
the rows that foreign keys delete with them, the rows that a new row refers to, and advisory locks.
"""

import ast
import json
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.sql import visitors

import authapi
from authapi.storage import Database, Store
from tests.tables import PREFIX, metadata

ORDER = (
    "advisory",
    "users",
    "sessions",
    "usernames",
    "email_tokens",
    "login_tickets",
    "totp_factors",
    "passkeys",
    "recovery_codes",
    "identities",
    "used_challenges",
    "signing_keys",
    "outbox",
    "last_deliveries",
    "events",
)
"""The order in which every transaction takes its locks. ARCHITECTURE.md gives the reason."""

OWNED = {"refresh_families": "sessions", "email_tokens": "users", "recovery_codes": "users"}
"""Rows that are locked only while the row that they belong to is locked. This gives refresh
families their position in the order: only a transaction that locks the session waits for one."""

PACKAGE = Path(authapi.__file__).parent


@dataclass(frozen=True)
class Lock:
    """A lock on one row, or an advisory lock."""

    table: str
    key: Any
    owner: Any = None
    """The user, or for a refresh family the session, that the row belongs to."""
    waits: bool = True
    """Whether it may wait for another transaction."""
    how: str = ""

    @property
    def resource(self) -> tuple[str, Any]:
        return self.table, self.key


@dataclass
class Trace:
    """The locks of one transaction, each once, in the order in which they were taken."""

    caller: str
    locks: list[Lock] = field(default_factory=list)
    own: set[tuple[str, Any]] = field(default_factory=set)
    """Rows that this transaction has inserted: no other one can hold them."""
    problems: list[str] = field(default_factory=list)

    def take(self, lock: Lock) -> None:
        """Records a lock, unless the transaction holds it already."""
        if not self.holds(*lock.resource):
            self.locks.append(lock)

    def holds(self, table: str, key: Any) -> bool:
        return (table, key) in self.own or any(held.resource == (table, key) for held in self.locks)

    def violations(self) -> list[str]:
        """Describes the violations of the order."""
        found, waiting = [*self.problems], [lock for lock in self.locks if lock.waits]
        ranked = [lock for lock in waiting if lock.table in ORDER]
        found += [
            f"{late.table} ({late.how}) after {early.table} ({early.how})"
            for early, late in pairwise(ranked)
            if ORDER.index(early.table) > ORDER.index(late.table)
        ]
        for table in ("advisory", "users", "outbox"):
            keys = [str(lock.key) for lock in waiting if lock.table == table]
            if keys != sorted(keys):
                found.append(f"several locks on {table}, not in order of their keys")
        found += self._without_their_owner(waiting)
        return [f"{self.caller}: {violation}" for violation in found]

    def _without_their_owner(self, waiting: Sequence[Lock]) -> Iterator[str]:
        sessions = [lock for lock in waiting if lock.table == "sessions"]
        if len(sessions) > 1 and not all(self.holds("users", it.owner) for it in sessions):
            yield "several sessions, whose users are not all locked"
        for lock in waiting:
            parent = OWNED.get(lock.table)
            if parent is not None and not self.holds(parent, lock.owner):
                yield f"a row of {lock.table}, whose row of {parent} is not locked"


def transaction_functions() -> set[str]:
    """All functions of the package that open a transaction."""
    return {
        f"{module.relative_to(PACKAGE)}:{name}"
        for module in PACKAGE.rglob("*.py")
        for name in _transaction_functions(ast.parse(module.read_text()), "")
    }


def _transaction_functions(node: ast.AST, inside: str) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield from _transaction_functions(child, f"{inside}.{child.name}".lstrip("."))
            continue
        is_call = isinstance(child, ast.Call) and isinstance(child.func, ast.Attribute)
        if is_call and child.func.attr == "transaction":  # type: ignore[attr-defined]  # is_call
            yield inside
        yield from _transaction_functions(child, inside)


class Recorder:
    """Records the traces of the transactions of one database."""

    def __init__(self) -> None:
        self.traces: list[Trace] = []
        self._open: dict[int, Trace] = {}
        self._is_inspecting = False

    @property
    def callers(self) -> set[str]:
        return {trace.caller for trace in self.traces}

    def violations(self) -> list[str]:
        """All violations, each once."""
        return sorted({violation for trace in self.traces for violation in trace.violations()})

    @contextmanager
    def recording(self, database: Database) -> Iterator[None]:
        """Records the transactions that the package opens on `database`."""
        original = Database.transaction

        def transaction(this: Database) -> AbstractAsyncContextManager[Store]:
            code = sys._getframe(1).f_code
            return self._traced(original(this), code.co_filename, code.co_qualname)

        engine = database.engine.sync_engine
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Database, "transaction", transaction)
            # What runs there in one statement runs as a transaction, which is seen.
            patch.setattr(database, "direct_reads", None)
            event.listen(engine, "before_execute", self._before)
            yield
            event.remove(engine, "before_execute", self._before)

    @asynccontextmanager
    async def _traced(
        self, opened: AbstractAsyncContextManager[Store], file: str, name: str
    ) -> AsyncIterator[Store]:
        async with opened as store:
            path = Path(file)
            if not path.is_relative_to(PACKAGE):
                yield store
                return
            key = id(store.connection.sync_connection)
            trace = Trace(f"{path.relative_to(PACKAGE)}:{name}")
            self.traces.append(trace)
            self._open[key] = trace
            try:
                yield store
            finally:
                del self._open[key]

    def _before(
        self,
        connection: sa.Connection,
        statement: Any,
        several: Sequence[Mapping[str, Any]],
        values: Mapping[str, Any],
        _: object,
    ) -> None:
        trace = self._open.get(id(connection))
        if trace is None or self._is_inspecting:
            return
        self._is_inspecting = True
        try:
            for each in _new_rows(statement, values) or several or [values]:
                _StatementInspector(trace, connection, each).at(statement)
        finally:
            self._is_inspecting = False


@dataclass(frozen=True)
class _StatementInspector:
    trace: Trace
    connection: sa.Connection
    values: Mapping[str, Any]

    def at(self, statement: Any) -> None:
        """Records the locks that `statement` takes, those of its common table expressions first."""
        for part in visitors.iterate(statement) if isinstance(statement, sa.Update) else ():
            expression = getattr(part, "table", None)
            if isinstance(expression, sa.CTE):
                self.at(expression.element)
        if isinstance(statement, sa.Select) and statement._for_update_arg is not None:
            self._select(statement)
        elif isinstance(statement, sa.Select | sa.TextClause):
            self._advisory(statement)
        elif isinstance(statement, sa.Insert):
            self._insert(statement)
        elif isinstance(statement, sa.Update):
            self._change(statement, "update")
        elif isinstance(statement, sa.Delete):
            self._change(statement, "delete")

    def _advisory(self, statement: Any) -> None:
        compiled = statement.compile()
        if "advisory_xact_lock" not in str(compiled):
            return
        for value in {**compiled.params, **self.values}.values():
            names = [f"address {it}" for it in value] if isinstance(value, list) else [value]
            for name in names:
                if isinstance(name, str):
                    waits = "pg_try_" not in str(compiled)
                    self.trace.take(Lock("advisory", name, waits=waits, how="advisory"))

    def _select(self, statement: sa.Select[Any]) -> None:
        mode = statement._for_update_arg
        assert mode is not None
        [table] = mode.of or statement.get_final_froms()
        query = statement.with_only_columns(*_columns(table), maintain_column_froms=True)
        query._for_update_arg = None
        self._note(table, query, how="select for update", waits=not mode.skip_locked)

    def _change(self, statement: Any, how: str) -> None:
        table = statement.table
        query = sa.select(*_columns(table)).where(*statement._where_criteria)
        keys = self._note(table, query, how=how)
        if how == "delete":
            self._cascade(table, keys)
        if how == "update" and _name(table) == "users" and "email" in _given(statement):
            self._check_address(_given(statement)["email"])

    def _note(self, table: Any, query: Any, *, how: str, waits: bool = True) -> list[Any]:
        rows = self.connection.execute(query, self.values).all()
        for key, owner in rows:
            self.trace.take(Lock(_name(table), key, owner, waits, how))
        return [key for key, _ in rows]

    def _cascade(self, table: Any, keys: Sequence[Any]) -> None:
        order = [*OWNED, *ORDER]
        for child in sorted(metadata.tables.values(), key=lambda it: order.index(_name(it))):
            for reference in child.foreign_keys:
                if keys and reference.column.table is table:
                    query = sa.select(*_columns(child)).where(reference.parent.in_(keys))
                    below = self._note(child, query, how=f"deleted with {_name(table)}")
                    self._cascade(child, below)

    def _insert(self, statement: Any) -> None:
        table, given = statement.table, {**_given(statement), **self.values}
        for reference in table.foreign_keys:
            parent, key = _name(reference.column.table), given.get(reference.parent.name)
            if key is not None and not self.trace.holds(parent, key):
                self.trace.problems.append(
                    f"refers from {_name(table)} to {parent}, which is not locked"
                )
        self.trace.own.add((_name(table), given[_columns(table)[0].name]))
        if _name(table) == "users":
            self._check_address(given["email"])

    def _check_address(self, email: str) -> None:
        if not self.trace.holds("advisory", f"address {email}"):
            self.trace.problems.append("assigns an address without its advisory lock")


def _name(table: Any) -> str:
    return str(table.name).removeprefix(PREFIX)


def _columns(table: Any) -> tuple[Any, Any]:
    # The recovery codes of a user count as one row, because each is used alone.
    key, *_ = table.primary_key.columns
    return key, table.c.get("user_id", key if _name(table) == "refresh_families" else sa.null())


def _new_rows(statement: Any, values: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The rows of an insert that reads them from one parameter (`insert_many`)."""
    if not isinstance(statement, sa.Insert) or statement.select is None or not values:
        return []
    uuids = [column.name for column in statement.table.c if isinstance(column.type, sa.Uuid)]
    rows = json.loads(values["rows"])
    assert rows
    return [
        {name: UUID(value) if name in uuids and value else value for name, value in row.items()}
        for row in rows
    ]


def _given(statement: Any) -> dict[str, Any]:
    return {
        getattr(column, "name", column): getattr(value, "value", None)
        for column, value in (statement._values or {}).items()
    }
