"""Fixtures of the fault tests: databases that tests may break, services, and figures."""

import itertools
import random
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from authapi.storage import migrations
from tests.faults.harness.figures import SCALE, Figures
from tests.faults.harness.service import Service
from tests.servers.forked import Forking
from tests.servers.postgres import PostgresCluster

_FIGURES = pytest.StashKey[Figures]()
_numbers = itertools.count(1)

Report = Callable[[str], None]
NewService = Callable[..., Service]
EmptyURL = Callable[[], str]


@pytest.fixture(scope="session")
def _figures(pytestconfig: pytest.Config) -> Figures:
    return pytestconfig.stash.setdefault(_FIGURES, Figures())


@pytest.fixture
def report(_figures: Figures, request: pytest.FixtureRequest) -> Report:
    """Adds the figures of this test to the report. The test's name begins with its number."""
    # test_07_losing_the_shared_store[flush] -> 7 losing the shared store [flush]
    number, _, words = request.node.originalname.removeprefix("test_").partition("_")
    _, _, parameters = request.node.name.partition("[")
    name = f"{int(number)} {words.replace('_', ' ')}"
    return lambda line: _figures.report(f"{name} [{parameters}" if parameters else name, line)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A process of pytest-xdist sends its figures to the process that prints the report."""
    sent = getattr(session.config, "workeroutput", None)
    if sent is not None and (figures := session.config.stash.get(_FIGURES, None)):
        sent["figures"] = figures.lines


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Takes the figures of a process that has ended. A killed one has sent none."""
    figures = node.config.stash.setdefault(_FIGURES, Figures())
    figures.lines |= getattr(node, "workeroutput", {}).get("figures", {})


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if figures := config.stash.get(_FIGURES, None):
        terminalreporter.section(f"faults, at scale {SCALE}")
        for line in figures.text():
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def _cluster() -> Iterator[PostgresCluster]:
    # With asynchronous commits, a kill of the server could lose acknowledged changes.
    with PostgresCluster({"synchronous_commit": "on", "max_connections": "300"}) as cluster:
        migrations.upgrade(cluster.create_database("template_faults"))
        yield cluster


@pytest.fixture
def cluster(_cluster: PostgresCluster) -> PostgresCluster:
    """A running PostgreSQL server that tests may break."""
    _cluster.start()
    return _cluster


@pytest.fixture
def postgres_here(cluster: PostgresCluster) -> Iterator[str]:
    """A fresh, migrated database in `cluster`."""
    name = f"faults_{next(_numbers)}"
    yield cluster.create_database(name, template="template_faults")
    cluster.start()
    cluster.drop_database(name)


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest) -> str:
    """A fresh, migrated database: the test runs once on SQLite and once on PostgreSQL."""
    name = "sqlite_url" if request.param == "sqlite" else "postgres_here"
    found: str = request.getfixturevalue(name)
    return found


@pytest.fixture(params=["sqlite", "postgres"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EmptyURL]:
    """Creates databases without a schema."""
    if request.param == "sqlite":
        yield lambda: f"sqlite:///{tmp_path}/empty_{next(_numbers)}.db"
        return
    cluster: PostgresCluster = request.getfixturevalue("cluster")
    names: list[str] = []

    def make() -> str:
        names.append(f"empty_{next(_numbers)}")
        return cluster.create_database(names[-1])

    yield make
    for name in names:
        cluster.drop_database(name)


@pytest.fixture
def new_service(
    request: pytest.FixtureRequest, tmp_path: Path, forking: Forking
) -> Iterator[NewService]:
    """Creates services whose processes end with the test.

    With the marker `own_interpreters`, they do not share their memory with a parent process.
    """
    is_own = request.node.get_closest_marker("own_interpreters") is not None
    made: list[Service] = []

    def make(url: str, extra: dict[str, str] | None = None, **settings: str) -> Service:
        made.append(Service(tmp_path, url, settings, extra or {}, None if is_own else forking))
        return made[-1]

    yield make
    for service in made:
        service.stack.close()


@pytest.fixture
def chance() -> random.Random:
    """A random generator whose seed is shown when a test fails."""
    seed = secrets.randbits(32)
    print(f"seed {seed}")  # noqa: T201  # pytest shows it with the failure
    return random.Random(seed)
