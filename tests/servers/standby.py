"""A streaming standby of a PostgreSQL server, and a server that stops responding."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from tests.servers.postgres import PostgresCluster

NAME = "standby"
DURABLE = {"synchronous_commit": "on", "max_connections": "300"}
"""The settings of both servers."""


class Standby(PostgresCluster):
    """A standby of ``primary``, which is stopped while its files are copied.

    Its password is that of the primary. It accepts reads until ``promote()``. ``follow()`` makes
    the primary wait for it.
    """

    def __init__(self, primary: PostgresCluster) -> None:
        address = f"host=127.0.0.1 port={primary.port} user=postgres password={primary.password}"
        settings = {"primary_conninfo": f"{address} application_name={NAME}"}
        super().__init__({**DURABLE, **settings}, primary.password)
        self._primary = primary

    def _prepare(self, directory: Path) -> None:
        self._primary.stop()
        source = self._primary.folder / "data"
        subprocess.run(["cp", "-a", str(source), str(directory)], check=True)
        mark = directory / "data" / "standby.signal"
        mark.touch(mode=0o600)
        self._change_owner(mark)

    def follow(self) -> None:
        """Starts both servers. The primary then acknowledges a commit when this one has it too."""
        self.start()
        self._primary.start()
        with psycopg.connect(self._primary.server.admin_url, autocommit=True) as connection:
            connection.execute(f"ALTER SYSTEM SET synchronous_standby_names = {NAME}")
            connection.execute("SELECT pg_reload_conf()")

    def promote(self) -> None:
        """Makes this server a primary, and waits until it is."""
        with psycopg.connect(self.server.admin_url, autocommit=True) as connection:
            assert connection.execute("SELECT pg_promote()").fetchone() == (True,)


@contextmanager
def frozen(cluster: PostgresCluster) -> Iterator[None]:
    """Stops all processes of a server, whose connections stay open. Kills it at the end."""
    children = Path(f"/proc/{cluster.pid}/task/{cluster.pid}/children")
    os.kill(cluster.pid, signal.SIGSTOP)  # first, so that it starts no other process
    pids = [int(pid) for pid in children.read_text().split()]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        # A child that goes on finds that its parent is gone, and ends.
        parent = cluster.pid
        os.kill(parent, signal.SIGKILL)
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
        cluster.kill()
