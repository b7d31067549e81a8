"""A command run as a real process, for tests to meet over a socket and by its exit code."""

import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import httpx


def free_port() -> int:
    """A TCP port on loopback that nobody uses at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Child(Protocol):
    """The part of `subprocess.Popen` that is used here."""

    pid: int
    returncode: int | None

    def wait(self, timeout: float | None = None) -> int: ...

    def terminate(self) -> None: ...


class ServeProcess:
    """A running command, in its own process group, with exactly the given environment.

    Its output goes to the files ``stdout`` and ``stderr`` in a new folder below ``directory`` (such
    as ``tmp_path``). The context manager kills what is left of the group.
    """

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], directory: Path
    ) -> None:
        folder = Path(tempfile.mkdtemp(prefix="process-", dir=directory))
        self.stdout = folder / "stdout"
        self.stderr = folder / "stderr"
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
        """What the process has written so far: standard output, then standard error."""
        return "".join(
            file.read_text(encoding="utf-8", errors="replace")
            for file in (self.stdout, self.stderr)
        )

    def wait_ready(self, url: str, timeout: float = 15.0) -> httpx.Response:
        """Polls ``url`` until it answers 2xx, and returns that answer.

        Raises ``RuntimeError`` at once if the process exits, and ``TimeoutError`` after ``timeout``
        seconds; both show the output.
        """
        deadline = time.monotonic() + timeout
        last = "no answer"
        # trust_env: a proxy from our environment has no business on loopback.
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
        """The exit code, negative for a signal; raises ``TimeoutError`` if it is still running."""
        if self._process.returncode is None:
            try:
                self._process.wait(timeout)
            except subprocess.TimeoutExpired:
                raise TimeoutError(f"still running after {timeout} s:\n{self.output()}") from None
            # Children left behind would keep its port. Now, while the group's number is surely its
            # own, and not later.
            self._kill_group()
        assert self._process.returncode is not None
        return self._process.returncode

    def terminate(self, timeout: float = 15.0) -> int:
        """Asks the process to stop (SIGTERM to it alone, as a container runtime would).

        Returns the exit code; raises ``TimeoutError`` if it does not follow, and kills it.
        """
        self._process.terminate()
        try:
            return self.wait(timeout)
        finally:
            self.kill()

    def kill(self) -> int:
        """Ends the whole group (SIGKILL) and returns the exit code; harmless after the end."""
        if self._process.returncode is None:
            self._kill_group()
        return self.wait()

    def _kill_group(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
