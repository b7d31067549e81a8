"""Fixtures that every test may use: a fresh database of either kind, the shipped app, a client."""

import gc
import itertools
import os
import shutil
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import cast

import hypothesis
import pytest

from authapi import Settings, backoff, create_app
from authapi.crypto import jwk
from authapi.crypto.passwords import Cost, PasswordHasher
from authapi.domain.signing_key import StoredKey
from authapi.services.keys.lifecycle import KeyLifecycle
from authapi.storage import migrations
from authapi.testing import Client, client
from tests.known_key import DER
from tests.servers.postgres import PostgresServer

pytest_plugins = ["tests.servers.plugin", "tests.shared_imports"]

pytest.register_assert_rewrite(
    "authapi.testing.authentication_contract",
    "authapi.testing.strategy_contract",
    "authapi.testing.strategy_harness",
)

_numbers = itertools.count(1)

SettingsFactory = Callable[..., Settings]


def pytest_addoption(parser: pytest.Parser) -> None:
    """`make test` passes this option. Without it, tests run FastAPI and SQLAlchemy unpatched."""
    parser.addoption(
        "--shared-analysis",
        action="store_true",
        help="share analysed routes and compiled statements between the tests of a worker (quick)",
    )


def pytest_configure(config: pytest.Config) -> None:
    # On a busy machine, an example takes any time.
    hypothesis.settings.register_profile(
        "authapi", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
    )
    hypothesis.settings.load_profile("authapi")
    # httpx asks for sniffio twice in each request to an application. Where it is not installed, a
    # search of all folders would be half of the time of a simple request.
    if find_spec("sniffio") is None:
        sys.modules["sniffio"] = cast(ModuleType, None)
    # Delays after failures have their full length; `tests/test_backoff.py` is about the rest.
    pytest.MonkeyPatch().setattr(backoff, "randbelow", lambda _: 0)
    if config.getoption("--shared-analysis"):
        for name in ("routes", "schema", "settings", "statements"):
            config.pluginmanager.import_plugin(f"tests.shared_{name}")


def pytest_collection_finish() -> None:
    """Modules and collected tests stay to the end: the collector need not look at them again."""
    # It would, some fifty times in each worker, for a third of a second each.
    gc.freeze()
    gc.set_threshold(10_000)  # an application is made and thrown away in each test


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """The service runs on asyncio: SQLAlchemy and uvicorn know no other."""
    return "asyncio"


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # No test sees the settings of whoever runs it, and none writes into their data folder.
    for name in [name for name in os.environ if name.startswith("AUTHAPI_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AUTHAPI_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))  # of `Settings.isolated`
    monkeypatch.chdir(tmp_path)


@cache
def hasher_of(cost: Cost) -> PasswordHasher:
    """One for all applications of this worker: making a hasher costs a hash, and it never changes.

    Tests put it in place of `PasswordHasher`.
    """
    return PasswordHasher(cost)


@pytest.fixture(autouse=True)
def hash_cost(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The least that argon2id can cost, in place of the default: most tests are not about it.

    Those that are have the marker `real_hashes`. Other costs, and processes of their own, are as
    they are.
    """
    default = Cost(
        *(Settings.model_fields[f"argon2_{name}"].default for name in ("memory", "passes", "lanes"))
    )
    is_real = request.node.get_closest_marker("real_hashes") is not None

    def hasher(cost: Cost) -> PasswordHasher:
        return hasher_of(Cost(8, 1, 1) if cost == default and not is_real else cost)

    monkeypatch.setattr("authapi.services.passwords.PasswordHasher", hasher)


@pytest.fixture
def known_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each service that this test starts on an empty database signs with `tests.known_key.KEY`."""
    make, ensure = jwk.new_private_key, KeyLifecycle.ensure

    async def ensure_known(self: KeyLifecycle) -> Sequence[StoredKey]:
        made = itertools.chain([DER], iter(lambda: make("ES256"), None))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(jwk, "new_private_key", lambda _: next(made))
            return await ensure(self)

    monkeypatch.setattr(KeyLifecycle, "ensure", ensure_known)


@pytest.fixture(scope="session")
def worker(request: pytest.FixtureRequest) -> str:
    """The name of this xdist worker."""
    return os.environ.get("PYTEST_XDIST_WORKER", "main")


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty SQLite database to copy."""
    path = tmp_path_factory.mktemp("sqlite") / "template.db"
    migrations.upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def postgres_template(postgres: PostgresServer, worker: str) -> str:
    """The name of a migrated, empty PostgreSQL database to copy."""
    name = f"template_{worker}"
    postgres.create_database(name)
    migrations.upgrade(postgres.url(name))
    return name


@pytest.fixture
def sqlite_url(sqlite_template: Path, tmp_path: Path) -> str:
    """A fresh, migrated SQLite database."""
    path = tmp_path / "authapi.db"
    shutil.copy(sqlite_template, path)
    return f"sqlite:///{path}"


@pytest.fixture
def postgres_url(fresh_postgres_url: str) -> str:
    """A migrated PostgreSQL database without rows."""
    return fresh_postgres_url


@pytest.fixture
def fresh_postgres_url(
    postgres: PostgresServer, postgres_template: str, worker: str
) -> Iterator[str]:
    """One of the test's own, which may do with it what it likes."""
    name = f"test_{worker}_{next(_numbers)}"
    postgres.create_database(name, template=postgres_template)
    yield postgres.url(name)
    postgres.drop_database(name)


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest) -> str:
    """A fresh, migrated database: the test runs once on SQLite and once on PostgreSQL."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
def make_settings(sqlite_url: str) -> SettingsFactory:
    """Settings on a fresh SQLite database, with whatever a test wants to be different."""

    def make(**changes: object) -> Settings:
        return Settings(**{"database_url": sqlite_url, **changes})  # type: ignore[arg-type]

    return make


@pytest.fixture
async def api(make_settings: SettingsFactory) -> AsyncIterator[Client]:
    """A client of the shipped app on SQLite, with default settings."""
    async with client(create_app(make_settings())) as found:
        yield found


@pytest.fixture
async def api_on_each(database_url: str) -> AsyncIterator[Client]:
    """A client of the shipped app, once on SQLite and once on PostgreSQL."""
    async with client(create_app(Settings(database_url=database_url))) as found:  # type: ignore[arg-type]
        yield found
