"""Statements compiled to SQL once for all databases of a worker, and not once for each test.

An engine keeps the SQL of its statements, and most tests make an engine: a tenth of their time was
this work. The cache is SQLAlchemy's execution option `compiled_cache`. Its keys begin with the
dialect object of the engine; the name of the dialect stands in its place here, because the engines
of all tests are made with the same options, and whether it is asynchronous, because the types of
the two kinds differ. It is a plugin of the option `--shared-analysis`.
"""

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from authapi.storage import migrations


class _Statements(dict[Any, Any]):
    def get(self, key: Any, default: Any = None) -> Any:
        return super().get(_by_name(key), default)

    def __setitem__(self, key: Any, compiled: Any) -> None:
        super().__setitem__(_by_name(key), compiled)


def _by_name(key: Any) -> Any:
    dialect, *rest = key
    return dialect.name, dialect.is_async, *rest


@pytest.fixture(scope="session", autouse=True)
def _shared_statements() -> Iterator[None]:
    statements, engine_of_migrations = _Statements(), migrations._engine
    memos = dict[object, Any]()

    def share(engine: sa.Engine) -> None:
        engine.update_execution_options(compiled_cache=statements)
        # A dialect also keeps how it converts each type.
        dialect = engine.dialect
        dialect._type_memos = memos.setdefault(
            (dialect.name, dialect.is_async),
            dialect._type_memos,
        )

    def create(*arguments: Any, **options: Any) -> AsyncEngine:
        engine = create_async_engine(*arguments, **options)
        share(engine.sync_engine)
        return engine

    def create_for_migrations(target: URL) -> sa.Engine:
        engine = engine_of_migrations(target)
        share(engine)
        return engine

    with pytest.MonkeyPatch.context() as patch:
        for module in ("database", "postgres.engine"):
            patch.setattr(f"authapi.storage.{module}.create_async_engine", create)
        patch.setattr(migrations, "_engine", create_for_migrations)
        yield
