"""Pytest plugin: one PostgreSQL for all xdist workers of a test run, and one Valkey per worker.

Loaded by ``pytest_plugins = ["tests.servers.plugin"]`` in the top-level conftest.
"""

from collections.abc import Iterator
from typing import Protocol

import pytest

from tests.servers.forked import Forking
from tests.servers.postgres import PostgresCluster, PostgresServer
from tests.servers.valkey import ValkeyServer

_CLUSTER = pytest.StashKey[PostgresCluster]()
_ADMIN_URL = "postgres_admin_url"


class _Node(Protocol):
    """Types the used part of ``WorkerController`` of xdist."""

    config: pytest.Config
    workerinput: dict[str, object]


@pytest.fixture(scope="session")
def postgres(pytestconfig: pytest.Config) -> PostgresServer:
    """The server of this test run, shared by all workers: database names must be unique."""
    workerinput: dict[str, str] | None = getattr(pytestconfig, "workerinput", None)
    return PostgresServer(workerinput[_ADMIN_URL]) if workerinput else _server(pytestconfig)


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[ValkeyServer]:
    """The Valkey of this worker, started for the first test that uses it."""
    with ValkeyServer() as server:
        yield server


@pytest.fixture
def valkey(valkey_server: ValkeyServer) -> ValkeyServer:
    """A running and empty Valkey, in any state after an earlier test."""
    valkey_server.start()
    valkey_server.command("FLUSHALL")
    return valkey_server


@pytest.fixture(scope="session")
def forking() -> Iterator[Forking]:
    """Runs commands as forked processes, which start faster than new interpreters."""
    with Forking() as parent:
        yield parent


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: _Node) -> None:
    node.workerinput[_ADMIN_URL] = _server(node.config).admin_url


def pytest_unconfigure(config: pytest.Config) -> None:
    if cluster := config.stash.get(_CLUSTER, None):
        cluster.close()


def _server(config: pytest.Config) -> PostgresServer:
    if _CLUSTER not in config.stash:
        cluster = PostgresCluster()
        cluster.start()
        config.stash[_CLUSTER] = cluster
    return config.stash[_CLUSTER].server
