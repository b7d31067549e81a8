"""What the servers for tests have in common: a process with a port and a folder of its own."""

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
    """A server of its own: port, password, folder and process.

    Use it as a context manager, or call ``start()`` and ``close()``. Neither the server nor its
    folder outlive the Python process, not even if that is killed.
    """

    NAME: str
    TIMEOUT: float
    """Seconds any one step of starting or stopping may take; normally each takes far below one."""
    CARETAKER: str
    """Ends the server, as a command of the shell in the server's folder."""
    STOP = signal.SIGTERM

    def __init__(self) -> None:
        # A password, although only loopback can connect: if another run's server should catch the
        # same port, neither is taken for the other. It also has to stay out of messages.
        self.password: Final = secrets.token_hex(16)
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
        """Returns once the server answers, on the same port as before if it ran before.

        Raises ``RuntimeError`` with the server's log if it does not come up.
        """
        if self._process:
            return
        if self._directory is None:
            self._directory = self._new_directory()
            self._prepare(self._directory)
        self._process = self._launch(self._directory)
        deadline = time.monotonic() + self.TIMEOUT
        while True:
            try:
                self._greet()
                return
            except OSError as error:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    log = (self._directory / "log").read_text()
                    self.kill()
                    raise RuntimeError(f"{self.NAME} did not start:\n{log}") from error
            time.sleep(0.01)

    def stop(self) -> None:
        """Asks the server to end, and waits; whoever is connected is cut off."""
        if self._process is None:
            return
        self._process.send_signal(self.STOP)
        try:
            self._process.wait(self.TIMEOUT)
        finally:
            self.kill()  # only tidies up, unless the wait was in vain

    def kill(self) -> None:
        """Ends the server as a crash would (SIGKILL)."""
        if self._process is None:
            return
        process, self._process = self._process, None
        with process:
            process.kill()
            process.wait()
            self._mourn(process)

    def restart(self) -> None:
        """Stops (unless killed before) and starts again; all connections are lost."""
        self.stop()
        self.start()

    def close(self) -> None:
        """Ends the server and removes all that it kept."""
        try:
            self.stop()
        finally:
            if self._caretaker is not None:
                self._caretaker.communicate(timeout=self.TIMEOUT)
            self._caretaker = self._directory = None

    @abstractmethod
    def _prepare(self, directory: Path) -> None:
        """Once, before the first start."""

    @abstractmethod
    def _launch(self, directory: Path) -> subprocess.Popen[bytes]:
        """The server, which writes to the file ``log`` why it cannot start."""

    @abstractmethod
    def _greet(self) -> None:
        """Raises ``OSError`` if the server does not answer."""

    @abstractmethod
    def _mourn(self, process: subprocess.Popen[bytes]) -> None:
        """After the server's end."""

    @property
    def _account(self) -> pwd.struct_passwd | None:
        """Whom the server runs as, if not as ourselves."""
        return None

    @property
    def _programs(self) -> Path | None:
        """A folder of programs besides the system's."""
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
        """Starts a program with nothing of our environment."""
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
            start_new_session=True,  # else Ctrl-C would stop the server before the tests clean up
        )

    def _new_directory(self) -> Path:
        """With a caretaker in it.

        Not below pytest's ``tmp_path``, where only the user of pytest can enter.
        """
        directory = Path(tempfile.mkdtemp(prefix=f"authapi-{self.NAME.lower()}-"))
        self._give(directory)
        # The pipe that `cat` reads ends with the process that holds the other end, however it
        # ended.
        script = f'cat > /dev/null\n{self.CARETAKER}\nrm -rf "$PWD"\n'
        self._caretaker = self._popen(directory, ["sh", "-c", script], stdin=subprocess.PIPE)
        return directory

    def _give(self, path: Path) -> None:
        if (account := self._account) is not None:
            os.chown(path, account.pw_uid, account.pw_gid)


def folder_of(package: str) -> Path:
    """Where a wheel has been installed. Raises ``RuntimeError`` if it has not."""
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise RuntimeError(f"{package} is not installed")
    return Path(found.origin).parent
