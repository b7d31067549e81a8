"""Services and proxies for these tests, started once for each worker."""

from collections.abc import Iterator

import pytest

from tests.proxies.testbed.backends import Backends
from tests.proxies.testbed.proxies import Proxies


@pytest.fixture(scope="session")
def backends(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backends]:
    """The running services, by kind."""
    found = Backends(tmp_path_factory.mktemp("backends"))
    yield found
    found.close()


@pytest.fixture(scope="session")
def proxies(tmp_path_factory: pytest.TempPathFactory, backends: Backends) -> Iterator[Proxies]:
    """The running proxies. They depend on `backends`, so that they stop first."""
    found = Proxies(tmp_path_factory.mktemp("proxies"))
    yield found
    found.close()
