"""Statements compiled to SQL once for all databases of a worker, and not once for each test.

An engine keeps the SQL of its statements, and most tests make an engine: a tenth of their time was
this work. The cache is SQLAlchemy's execution option `compiled_cache`. Its keys begin with the
dialect object of the engine; the name of the dialect stands in its place here, because the engines
of all tests are made with the same options. It is a plugin of the option `--shared-analysis`.
"""

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine


class _Statements(dict[Any, Any]):
    def get(self, key: Any, default: Any = None) -> Any:
        return super().get(_by_name(key), default)

    def __setitem__(self, key: Any, compiled: Any) -> None:
        super().__setitem__(_by_name(key), compiled)


def _by_name(key: Any) -> Any:
    dialect, *rest = key
    return dialect.name, *rest


@pytest.fixture(scope="session", autouse=True)
def _shared_statements() -> Iterator[None]:
    statements = _Statements()

    def create(*arguments: Any, **options: Any) -> AsyncEngine:
        engine = create_async_engine(*arguments, **options)
        engine.sync_engine.update_execution_options(compiled_cache=statements)
        return engine

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("authapi.storage.database.create_async_engine", create)
        yield
