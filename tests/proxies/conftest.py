"""Services and proxies for these tests, started once for each worker."""

from collections.abc import Iterator

import pytest

from tests.proxies.bed.backends import Backends
from tests.proxies.bed.fronts import Fronts


@pytest.fixture(scope="session")
def backends(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backends]:
    """The services, by kind."""
    found = Backends(tmp_path_factory.mktemp("backends"))
    yield found
    found.close()


@pytest.fixture(scope="session")
def fronts(tmp_path_factory: pytest.TempPathFactory, backends: Backends) -> Iterator[Fronts]:
    """The proxies before them. `backends` is asked for, so that the proxies end first."""
    found = Fronts(tmp_path_factory.mktemp("fronts"))
    yield found
    found.close()
