"""Checks once in a worker that the schema of the shared PostgreSQL database is up to date.

Each start of a service checks it on two connections of its own, which have nothing in common with
those of the service: a quarter of the time of a start, for the worker and for PostgreSQL. Tests
that use `tests.storage.emptied` change only rows, so the first result holds for all of them. Other
databases, and other names of tables, are checked at each start. It is a plugin of the option
`--shared-analysis`.
"""

from collections.abc import Iterator

import pytest

from authapi.storage import migrations
from authapi.storage.names import DEFAULT_NAMES, TableNames
from tests.storage.emptied import SHARED


@pytest.fixture(scope="session", autouse=True)
def _shared_schema() -> Iterator[None]:
    require, checked = migrations.require_current, set[object]()

    def require_current(url: str, *, names: TableNames = DEFAULT_NAMES) -> None:
        # Tests replace the revision that the code needs.
        check = url, names, migrations.head()
        if check not in checked:
            require(url, names=names)
        if url in SHARED and names == DEFAULT_NAMES:
            checked.add(check)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(migrations, "require_current", require_current)
        yield
