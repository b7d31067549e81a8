"""A real PgBouncer for tests, from the Debian package `pgbouncer`."""

import os
import pwd
import shutil
import subprocess
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit, urlunsplit

import psycopg

from tests.servers.daemon import Daemon

PoolMode = Literal["session", "transaction", "statement"]

_FOLDERS: Final = os.pathsep.join(("/usr/sbin", "/usr/local/sbin", os.defpath))
_ADMIN: Final = "pgbouncer_admin"


def installed() -> str:
    """Returns the program. Raises RuntimeError, with instructions, if it is not installed."""
    found = shutil.which("pgbouncer", path=_FOLDERS)
    if found is None:
        raise RuntimeError("PgBouncer is not installed: apt-get install pgbouncer")
    return found


class PgBouncer(Daemon):
    """A pooler in front of the server at ``url``, for all its databases and the user of the URL.

    ``settings`` are added to the section ``[pgbouncer]``. It listens on loopback and on a Unix
    socket in its folder.
    """

    NAME = "PgBouncer"
    TIMEOUT = 15.0
    CARETAKER = 'kill -KILL "$(cat pid 2> /dev/null)" 2> /dev/null'

    def __init__(self, url: str, mode: PoolMode, **settings: str) -> None:
        super().__init__()
        self._server = urlsplit(url)
        self._settings = {"pool_mode": mode, "default_pool_size": "20", **settings}

    def url(self, server_url: str) -> str:
        """Returns the URL of a database of the server through this pooler."""
        parts = urlsplit(server_url)
        credentials = parts.netloc.rpartition("@")[0]
        return urlunsplit(parts._replace(netloc=f"{credentials}@127.0.0.1:{self.port}"))

    @property
    def folder(self) -> Path:
        """The folder of its Unix socket."""
        assert self._directory
        return self._directory

    def _prepare(self, directory: Path) -> None:
        lines = {
            "listen_addr": "127.0.0.1",
            "listen_port": str(self.port),
            "unix_socket_dir": str(directory),
            "logfile": "log",
            "auth_type": "scram-sha-256",
            "auth_file": "users",
            "admin_users": _ADMIN,
            **self._settings,
        }
        section = "".join(f"{name} = {value}\n" for name, value in lines.items())
        server = f"host={self._server.hostname} port={self._server.port}"
        users = {_ADMIN: self.password, self._server.username: self._server.password}
        for name, text in {
            "settings": f"[databases]\n* = {server}\n[pgbouncer]\n{section}",
            "users": "".join(f'"{user}" "{password}"\n' for user, password in users.items()),
        }.items():
            path = directory / name
            path.touch(mode=0o600)
            path.write_text(text)
            self._change_owner(path)

    def _start_process(self, directory: Path) -> subprocess.Popen[bytes]:
        process = self._popen(directory, [installed(), "--quiet", "settings"])
        (directory / "pid").write_text(str(process.pid))
        return process

    def _check_responds(self) -> None:
        try:
            psycopg.connect(
                host="127.0.0.1",
                port=self.port,
                user=_ADMIN,
                password=self.password,
                dbname="pgbouncer",
                connect_timeout=5,
            ).close()
        except psycopg.OperationalError as error:
            raise ConnectionError from error

    def _after_exit(self, process: subprocess.Popen[bytes]) -> None:
        if self._directory is not None:
            (self._directory / "pid").unlink()  # the pid may soon belong to another process

    @property
    def _account(self) -> pwd.struct_passwd | None:
        # PgBouncer refuses to run as root.
        return pwd.getpwnam("nobody") if os.geteuid() == 0 else None
