"""A database that does not answer."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import pytest

from authapi.errors import StorageUnavailable
from authapi.storage import Database


@contextmanager
def database_away() -> Iterator[None]:
    """Each request within the block that needs the database finds that it is away."""

    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise StorageUnavailable

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Database, "read", refuse)
        patch.setattr(Database, "rows", refuse)
        patch.setattr(Database, "transaction", refuse)
        yield
