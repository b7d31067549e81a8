"""A command as a real process, which tests observe by its socket and its exit code."""

import fcntl
import os
import random
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol, Self

import httpx

# Below the ports that Linux, macOS and Windows give to outgoing connections. Such a port can be
# taken by a connection of another test between the choice and the start of the server.
PORTS: Final = range(20_000, 32_768)


class Reservations:
    """The ports that this process has chosen, kept from all other test processes until it ends.

    Each port is a locked byte of one file that all test processes of a user share. The operating
    system releases the locks of a process that ends, and does not give them to its children.
    """

    def __init__(self, file: Path) -> None:
        self._file = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
        self._pid = os.getpid()
        self._chosen: set[int] = set()

    def add(self, port: int) -> bool:
        """Reserves the port. False if it is reserved already, here or in another process."""
        if self._pid != os.getpid():  # a fork has the file, but not the locks
            self._pid, self._chosen = os.getpid(), set()
        if port in self._chosen:  # a process may lock its own byte again
            return False
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
        except OSError:
            return False
        self._chosen.add(port)
        return True


_reservations = Reservations(Path(tempfile.gettempdir()) / f"authapi-test-ports-{os.getuid()}")


def free_port() -> int:
    """Returns a TCP port of `PORTS` that is unused on every address and that no test has chosen.

    It stays reserved for the calling process: two servers of one test never get the same port, and
    a server that is stopped and started again does not lose its port to a parallel test.

    The choice is random and does not depend on the seed of the tests, so that parallel processes
    choose different ports.
    """
    choice = random.SystemRandom()
    while True:
        port = choice.choice(PORTS)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("", port))
            if _reservations.add(port):
                return port


class Child(Protocol):
    """The used part of `subprocess.Popen`."""

    pid: int
    returncode: int | None

    def wait(self, timeout: float | None = None) -> int: ...

    def terminate(self) -> None: ...


class ServeProcess:
    """A running command in a new process group, with exactly the given environment.

    Its output goes to the files ``stdout`` and ``stderr`` in a new folder below ``directory`` (such
    as ``tmp_path``). The context manager kills the remaining processes of the group.
    """

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], directory: Path
    ) -> None:
        folder = Path(tempfile.mkdtemp(prefix="process-", dir=directory))
        self.stdout = folder / "stdout"
        self.stderr = folder / "stderr"
        for file in (self.stdout, self.stderr):
            file.touch()  # a forked process opens them later
        self._process = self._start(command, environment)
        self.pid = self._process.pid

    def _start(self, command: Sequence[str], environment: Mapping[str, str]) -> Child:
        with self.stdout.open("wb") as stdout, self.stderr.open("wb") as stderr:
            return subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill()

    def output(self) -> str:
        """Returns the output so far: standard output, then standard error."""
        return "".join(
            file.read_text(encoding="utf-8", errors="replace")
            for file in (self.stdout, self.stderr)
        )

    def wait_ready(self, url: str, timeout: float = 60.0) -> httpx.Response:
        """Polls ``url`` until the response is 2xx, and returns that response.

        Raises RuntimeError at once if the process exits, and TimeoutError after ``timeout``
        seconds; both contain the output.
        """
        deadline = time.monotonic() + timeout
        last = "no answer"
        # trust_env=False, because a proxy from the environment must not be used on loopback.
        with httpx.Client(trust_env=False, timeout=timeout) as client:
            while time.monotonic() < deadline:
                with suppress(TimeoutError):
                    code = self.wait(0)
                    raise RuntimeError(f"exited with {code} before ready:\n{self.output()}")
                try:
                    response = client.get(url, timeout=max(deadline - time.monotonic(), 0.01))
                    if response.is_success:
                        return response
                    last = f"status {response.status_code}"
                except httpx.TransportError as error:
                    last = repr(error)
                time.sleep(0.02)
        raise TimeoutError(f"not ready after {timeout} s ({last}):\n{self.output()}")

    def wait(self, timeout: float = 15.0) -> int:
        """Returns the exit code, negative for a signal. Raises TimeoutError if it still runs."""
        if self._process.returncode is None:
            try:
                self._process.wait(timeout)
            except subprocess.TimeoutExpired:
                raise TimeoutError(f"still running after {timeout} s:\n{self.output()}") from None
            # Remaining children would keep the port. They are killed now, while the id of the
            # group cannot belong to other processes.
            self._kill_group()
        assert self._process.returncode is not None
        return self._process.returncode

    def terminate(self, timeout: float = 15.0) -> int:
        """Sends SIGTERM to the process alone, as a container runtime does.

        Returns the exit code. If the process does not exit, kills it and raises TimeoutError.
        """
        self._process.terminate()
        try:
            return self.wait(timeout)
        finally:
            self.kill()

    def kill(self) -> int:
        """Kills the whole group (SIGKILL) and returns the exit code. Safe after the exit."""
        if self._process.returncode is None:
            self._kill_group()
        return self.wait()

    def _kill_group(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
