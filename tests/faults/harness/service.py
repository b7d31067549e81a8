"""Real `authapi serve` processes, any number of them on one database."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tests.servers.forked import Forking
from tests.servers.process import ServeProcess, free_port

UNLIMITED = "1000000/second"
LIMITS = ("ACCOUNT_AND_NETWORK", "ACCOUNT", "NETWORK", "TOTAL", "REGISTRATIONS", "WRITES")
ARGON2_KIB = 19456


@dataclass(frozen=True)
class Running:
    """One running `authapi serve`, with its workers."""

    process: ServeProcess
    port: int

    def ready(self, timeout: float = 60) -> float:
        """Waits until it is ready. Returns the seconds."""
        started_at = time.monotonic()
        self.process.wait_ready(f"http://127.0.0.1:{self.port}/health/ready", timeout=timeout)
        return time.monotonic() - started_at


@dataclass
class Service:
    """One database, one secret, and the processes that use them."""

    directory: Path
    database_url: str
    settings: Mapping[str, str] = field(default_factory=dict)
    """Environment variables without `AUTHAPI_`."""
    extra: Mapping[str, str] = field(default_factory=dict)
    """Other environment variables."""
    forking: Forking | None = None
    """Starts processes as forks, a second faster; without it, all have interpreters of their own.
    Workers, commands, and processes with other environment variables always have."""
    stack: ExitStack = field(default_factory=ExitStack)

    @property
    def is_sqlite(self) -> bool:
        return self.database_url.startswith("sqlite")

    def environment(self, **settings: str) -> dict[str, str]:
        """The environment of a process: of this one, only the paths of programs and packages."""
        chosen = {
            "DATABASE_URL": self.database_url,
            "DATA_DIR": str(self.directory / "data"),
            "SECRET": "f0b6d1c7e95a428d3b8e1f6a7c0d2945",
            # All processes have the same issuer.
            "PUBLIC_URL": "http://127.0.0.1:8000",
            **{f"LIMIT_{name}": UNLIMITED for name in LIMITS},
            **self.settings,
            **settings,
        }
        inherited = {
            name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ
        }
        return {
            **inherited,
            **self.extra,
            **{f"AUTHAPI_{name}": value for name, value in chosen.items()},
        }

    def start(
        self,
        *,
        port: int | None = None,
        workers: int = 1,
        wait: bool = True,
        prefix: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> Running:
        """Starts a process, and waits until it is ready unless `wait` is False."""
        port = port or free_port()
        arguments = ["serve", "--port", str(port), "--workers", str(workers)]
        variables = {**self.environment(**(settings or {})), **(environment or {})}
        if self.forking is None or workers > 1 or prefix or self.extra or environment:
            command = [*prefix, sys.executable, "-m", "authapi", *arguments]
            process = ServeProcess(command, variables, self.directory)
        else:
            process = self.forking.start(arguments, variables, self.directory)
        self.stack.enter_context(process)
        running = Running(process, port)
        if wait:
            running.ready()
        return running

    def start_many(self, count: int, settings: Mapping[str, str] | None = None) -> list[Running]:
        """Starts several processes together, and waits until all are ready."""
        found = [self.start(wait=False, settings=settings) for _ in range(count)]
        for running in found:
            running.ready(timeout=120)
        return found

    def command(self, *arguments: str, **settings: str) -> ServeProcess:
        """Starts the command `authapi ...` without waiting for its end."""
        process = ServeProcess(
            [sys.executable, "-m", "authapi", *arguments],
            self.environment(**settings),
            self.directory,
        )
        return self.stack.enter_context(process)

    def run(
        self, *arguments: str, timeout: float = 60, stdin: str | None = None, **settings: str
    ) -> str:
        """Runs the command `authapi ...`, which must succeed. Returns its output."""
        done = subprocess.run(
            [sys.executable, "-m", "authapi", *arguments],
            cwd=self.directory,
            env=self.environment(**settings),
            input=stdin,
            capture_output=True,
            encoding="utf-8",
            timeout=timeout,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout
