"""Pytest plugin: one PostgreSQL per test run, shared by all xdist workers.

Loaded by ``pytest_plugins = ["tests.servers.plugin"]`` in the top-level conftest.
"""

from typing import Protocol

import pytest

from tests.servers.postgres import PostgresCluster, PostgresServer

_CLUSTER = pytest.StashKey[PostgresCluster]()
_ADMIN_URL = "postgres_admin_url"


class _Node(Protocol):
    """The part of xdist's untyped ``WorkerController`` that is used here."""

    config: pytest.Config
    workerinput: dict[str, object]


@pytest.fixture(scope="session")
def postgres(pytestconfig: pytest.Config) -> PostgresServer:
    """The server of this test run. Other workers use it too: give databases names of your own."""
    workerinput: dict[str, str] | None = getattr(pytestconfig, "workerinput", None)
    return PostgresServer(workerinput[_ADMIN_URL]) if workerinput else _server(pytestconfig)


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
