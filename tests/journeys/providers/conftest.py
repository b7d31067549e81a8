"""A provider, and services with it, on each database."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import pytest

from tests.journeys.providers.service import People, Place, Visitor, serving
from tests.servers.postgres import PostgresServer

_numbers = count(1)


@pytest.fixture
def acme() -> Iterator[People]:
    """A provider with many people."""
    with People() as server:
        yield server


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """What ends with the test."""
    with ExitStack() as found:
        yield found


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def new_database(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    sqlite_template: Path,
    postgres: PostgresServer,
    postgres_template: str,
    worker: str,
) -> Iterator[Callable[[], str]]:
    """Returns the URL of a migrated, empty database, which lives as long as the module."""
    with ExitStack() as dropped:

        def create() -> str:
            if request.param == "sqlite":
                path = tmp_path_factory.mktemp("database") / "authapi.db"
                shutil.copy(sqlite_template, path)
                return f"sqlite:///{path}"
            name = f"providers_{worker}_{next(_numbers)}"
            postgres.create_database(name, template=postgres_template)
            dropped.callback(postgres.drop_database, name)
            return postgres.url(name)

        yield create


@pytest.fixture(scope="module")
def place(
    tmp_path_factory: pytest.TempPathFactory, new_database: Callable[[], str]
) -> Iterator[Place]:
    """A service with two providers, which each test uses with names of its own."""
    with People() as acme, People() as other:
        trusted = ["example.com"]
        providers = {
            "acme": acme.options(title="Acme", trusted_email_domains=trusted),
            "other": other.options(title="Other", trusted_email_domains=trusted),
        }
        with serving(tmp_path_factory.mktemp("service"), new_database(), providers) as service:
            yield Place(service, acme, other)


@pytest.fixture
def visitor(place: Place) -> Iterator[Visitor]:
    """A browser of the service."""
    with Visitor(place.service.url) as found:
        yield found
