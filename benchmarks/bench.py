"""The surroundings of one run: the store, the servers, and that all of it ends."""

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
from benchmarks.options import Options
from benchmarks.stack import Stack
from tests.servers.postgres import PostgresCluster
from tests.servers.process import ServeProcess

ROOT: Final = Path(__file__).parents[1]
SETTINGS: Final[Mapping[str, str]] = {
    # As a server that keeps its promises: tests.servers switches these off.
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "shared_buffers": "512MB",
    "max_wal_size": "4GB",
    "maintenance_work_mem": "256MB",
}


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers."""

    stack: Stack
    pid: int
    """Also the number of its process group."""
    client: httpx.Client
    seconds_to_ready: float


class Bench:
    """Everything that a run starts, ended with the context."""

    def __init__(self, options: Options) -> None:
        self.options = options
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
        """For databases in files, data folders and the output of servers."""
        return Path(self._exit.enter_context(tempfile.TemporaryDirectory(prefix="authapi-bench-")))

    @cached_property
    def postgres(self) -> PostgresCluster:
        """The PostgreSQL of this run."""
        return self._exit.enter_context(PostgresCluster(SETTINGS))

    def database(self, name: str) -> str:
        """The URL of a new and empty database in the chosen store."""
        if self.options.store == "sqlite":
            return f"sqlite:///{self.folder / name}.db"
        return self.postgres.create_database(name)

    def authapi_environment(self, name: str, *, known_callers: int | None = None) -> dict[str, str]:
        """Settings of an authapi with a migrated database of its own; all else is default."""
        url = self.database(name)
        migrations.upgrade(url)
        environment = {
            "AUTHAPI_DATABASE_URL": url,
            "AUTHAPI_DATA_DIR": str(self.folder / name),
            # All accounts come from one address here, and logins of a storm with them.
            "AUTHAPI_LIMIT_REGISTRATIONS": "100000/minute",
        }
        count = self.options.known_callers if known_callers is None else known_callers
        if count is not None:
            environment["AUTHAPI_KNOWN_CALLERS"] = str(count)
        return environment

    @contextmanager
    def running(self, stack: Stack) -> Iterator[Running]:
        """`stack`, answering, until the end of the block."""
        environment = {"PATH": os.environ.get("PATH", os.defpath), **stack.environment}
        begun = time.perf_counter()
        with ServeProcess(list(stack.command), environment, self.folder) as process:
            process.wait_ready(stack.base + stack.ready, timeout=30)
            seconds = time.perf_counter() - begun
            with httpx.Client(base_url=stack.base, trust_env=False, timeout=30) as client:
                yield Running(stack, process.pid, client, seconds)

    def enter(self, manager: AbstractContextManager[Running]) -> Running:
        """Keep a server running until the end of the whole run."""
        return self._exit.enter_context(manager)
