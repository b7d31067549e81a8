"""Base class of servers for tests: a process with a port and a folder."""

import importlib.util
import os
import pwd
import secrets
import signal
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.servers.process import free_port


class Daemon(ABC):
    """A server with its own port, password, folder and process.

    Use it as a context manager, or call ``start()`` and ``close()``. The server and its folder are
    removed when the Python process ends, even if it is killed.
    """

    NAME: str
    TIMEOUT: float
    """Seconds that each step of starting or stopping may take; normally far below one."""
    CARETAKER: str
    """A shell command that stops the server, run in its folder."""
    STOP = signal.SIGTERM

    def __init__(self, password: str | None = None) -> None:
        # A password, although only loopback can connect: if a server of another run gets the same
        # port, tests must not use it by mistake. Tests also check that it is never printed.
        self.password: Final = password or secrets.token_hex(16)
        self.port: Final = free_port()
        self._directory: Path | None = None
        self._caretaker: subprocess.Popen[bytes] | None = None
        self._process: subprocess.Popen[bytes] | None = None

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

    def start(self) -> None:
        """Starts the server and waits until it responds. A restart uses the same port.

        Raises RuntimeError with the log of the server if it does not start.
        """
        if self._process:
            return
        if self._directory is None:
            self._directory = self._new_directory()
            self._prepare(self._directory)
        self._process = self._start_process(self._directory)
        deadline = time.monotonic() + self.TIMEOUT
        while True:
            try:
                self._check_responds()
                return
            except OSError as error:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    log = (self._directory / "log").read_text()
                    self.kill()
                    raise RuntimeError(f"{self.NAME} did not start:\n{log}") from error
            time.sleep(0.01)

    def stop(self) -> None:
        """Stops the server and waits. Its connections are closed."""
        if self._process is None:
            return
        self._process.send_signal(self.STOP)
        try:
            self._process.wait(self.TIMEOUT)
        finally:
            self.kill()  # cleans up, unless the wait has timed out

    def kill(self) -> None:
        """Kills the server, as a crash would (SIGKILL)."""
        if self._process is None:
            return
        process, self._process = self._process, None
        with process:
            process.kill()
            process.wait()
            self._after_exit(process)

    def restart(self) -> None:
        """Stops the server, unless it was killed, and starts it again. All connections are lost."""
        self.stop()
        self.start()

    def close(self) -> None:
        """Stops the server and removes its files."""
        try:
            self.stop()
        finally:
            if self._caretaker is not None:
                self._caretaker.communicate(timeout=self.TIMEOUT)
            self._caretaker = self._directory = None

    @property
    def pid(self) -> int:
        """The id of the running process. Raises RuntimeError if the server is stopped."""
        if self._process is None:
            raise RuntimeError(f"{self.NAME} is not running")
        return self._process.pid

    @abstractmethod
    def _prepare(self, directory: Path) -> None:
        """Prepares the folder, once before the first start."""

    @abstractmethod
    def _start_process(self, directory: Path) -> subprocess.Popen[bytes]:
        """Starts the process, which logs to the file ``log``."""

    @abstractmethod
    def _check_responds(self) -> None:
        """Sends one request. Raises OSError if the server does not respond."""

    @abstractmethod
    def _after_exit(self, process: subprocess.Popen[bytes]) -> None:
        """Called after the end of the server."""

    @property
    def _account(self) -> pwd.struct_passwd | None:
        """The user of the server, if not that of this process."""
        return None

    @property
    def _programs(self) -> Path | None:
        """An additional folder of programs."""
        return None

    def _popen(
        self,
        directory: Path,
        command: Sequence[str],
        *,
        stdin: int = subprocess.DEVNULL,
        stdout: int = subprocess.DEVNULL,
        stderr: int = subprocess.DEVNULL,
    ) -> subprocess.Popen[bytes]:
        """Starts a program without the environment of this process."""
        account, folders = self._account, [str(self._programs)] if self._programs else []
        return subprocess.Popen(
            command,
            cwd=directory,
            env={"PATH": os.pathsep.join([*folders, os.defpath]), "LC_ALL": "C", "TZ": "UTC"},
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            user=account and account.pw_uid,
            group=account and account.pw_gid,
            extra_groups=account and [],
            start_new_session=True,  # Ctrl-C must not stop the server before the tests clean up
        )

    def _new_directory(self) -> Path:
        """Creates the folder, and a process that removes it when this process ends.

        Not below ``tmp_path`` of pytest, which only the user of pytest can access.
        """
        directory = Path(tempfile.mkdtemp(prefix=f"authapi-{self.NAME.lower()}-"))
        self._change_owner(directory)
        # `cat` reads a pipe that closes when the process at its other end exits for any reason.
        script = f'cat > /dev/null\n{self.CARETAKER}\nrm -rf "$PWD"\n'
        self._caretaker = self._popen(directory, ["sh", "-c", script], stdin=subprocess.PIPE)
        return directory

    def _change_owner(self, path: Path) -> None:
        if (account := self._account) is not None:
            os.chown(path, account.pw_uid, account.pw_gid)


def folder_of(package: str) -> Path:
    """Returns the folder of an installed wheel. Raises RuntimeError if it is not installed."""
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise RuntimeError(f"{package} is not installed")
    return Path(found.origin).parent
