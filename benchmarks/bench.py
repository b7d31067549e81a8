"""The environment of one run: database, servers, and their cleanup."""

import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import httpx

from authapi.storage import migrations
from benchmarks import processes
from benchmarks.options import Options
from benchmarks.stack import Stack
from tests.servers.postgres import PostgresCluster
from tests.servers.process import ServeProcess

ROOT: Final = Path(__file__).parents[1]
SETTINGS: Final[Mapping[str, str]] = {
    # Durable, as in production: tests.servers disables these.
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "shared_buffers": "512MB",
    "max_wal_size": "4GB",
    "maintenance_work_mem": "256MB",
}


@dataclass(frozen=True, slots=True)
class Running:
    """A running server."""

    stack: Stack
    pid: int
    """Also the id of its process group."""
    client: httpx.Client
    seconds_to_ready: float


class Bench:
    """Starts everything that a run needs, and stops it at the end of the context."""

    def __init__(self, options: Options, settings: Mapping[str, str] = SETTINGS) -> None:
        """`settings` are those of PostgreSQL."""
        self.options = options
        self._settings = settings
        self._exit = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._exit.close()

    @cached_property
    def folder(self) -> Path:
        """Folder of SQLite files, data folders and the output of servers."""
        return Path(self._exit.enter_context(tempfile.TemporaryDirectory(prefix="authapi-bench-")))

    @cached_property
    def postgres(self) -> PostgresCluster:
        """The PostgreSQL server of this run."""
        return self._exit.enter_context(PostgresCluster(self._settings))

    def postgres_cpu_seconds(self) -> float:
        """Returns the CPU time of PostgreSQL so far; 0 on SQLite, which has no process."""
        if self.options.store == "sqlite":
            return 0.0
        return processes.family_cpu_seconds(self.postgres.pid)

    def database(self, name: str) -> str:
        """Creates an empty database in the chosen store; returns its URL."""
        if self.options.store == "sqlite":
            return f"sqlite:///{self.folder / name}.db"
        return self.postgres.create_database(name)

    def authapi_environment(
        self, name: str, *, identity_cache_size: int | None = None
    ) -> dict[str, str]:
        """Creates and migrates a database for authapi; returns the environment variables."""
        url = self.database(name)
        migrations.upgrade(url)
        environment = {
            "AUTHAPI_DATABASE_URL": url,
            "AUTHAPI_DATA_DIR": str(self.folder / name),
            # All registrations and logins of a benchmark come from one address.
            "AUTHAPI_LIMIT_REGISTRATIONS": "100000/minute",
        }
        count = (
            self.options.identity_cache_size if identity_cache_size is None else identity_cache_size
        )
        if count is not None:
            environment["AUTHAPI_IDENTITY_CACHE_SIZE"] = str(count)
        return environment

    @contextmanager
    def running(self, stack: Stack) -> Iterator[Running]:
        """Runs `stack` until the end of the block."""
        environment = {"PATH": os.environ.get("PATH", os.defpath), **stack.environment}
        begun = time.perf_counter()
        with ServeProcess(list(stack.command), environment, self.folder) as process:
            process.wait_ready(stack.base + stack.ready, timeout=60)
            seconds = time.perf_counter() - begun
            with httpx.Client(base_url=stack.base, trust_env=False, timeout=30) as client:
                yield Running(stack, process.pid, client, seconds)

    def enter(self, manager: AbstractContextManager[Running]) -> Running:
        """Keeps a server running until the end of the run."""
        return self._exit.enter_context(manager)
