"""A client in a process of its own, with a new connection for each request.

In the process of a test it would measure how busy that process is with other clients.
"""

import select
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path

_INTERVAL = 0.05
"""Seconds between two requests."""
_TIMEOUT = 30.0


class Probe:
    """Sends `head`, a whole request, to a port of this machine until `end`.

    `root` is the certificate of a server with TLS, whose name is `localhost`.
    """

    def __init__(self, port: int, head: bytes, root: Path | None = None) -> None:
        arguments = [str(port), head.hex(), *([] if root is None else [str(root)])]
        self._process = subprocess.Popen(
            [sys.executable, __file__, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def end(self) -> list[tuple[int, float]]:
        """Returns the status of each answer, 0 for none, and its duration in seconds."""
        output, _ = self._process.communicate(timeout=2 * _TIMEOUT)
        pairs = [line.split() for line in output.splitlines()]
        return [(int(status), float(seconds)) for status, seconds in pairs]

    def kill(self) -> None:
        """Ends it without its answers."""
        self._process.kill()
        self._process.communicate()


def _ask(port: int, head: bytes, context: ssl.SSLContext | None) -> int:
    try:
        with socket.create_connection(("127.0.0.1", port), _TIMEOUT) as plain:
            wrapped = context.wrap_socket(plain, server_hostname="localhost") if context else plain
            with wrapped:
                wrapped.sendall(head)
                return int(wrapped.recv(1 << 16)[9:12] or b"0")
    except OSError:
        return 0


def _run(port: int, head: bytes, context: ssl.SSLContext | None) -> None:
    """Ends with the process that started this one, and prints one line for each answer then."""
    answers = list[str]()  # a pipe that is not read until the end would be full soon
    while not select.select([sys.stdin], [], [], _INTERVAL)[0]:
        started_at = time.monotonic()
        status = _ask(port, head, context)
        answers.append(f"{status} {time.monotonic() - started_at}")
    sys.stdout.write("\n".join(answers))


if __name__ == "__main__":
    given = sys.argv[3:]
    _run(
        int(sys.argv[1]),
        bytes.fromhex(sys.argv[2]),
        ssl.create_default_context(cafile=given[0]) if given else None,
    )
