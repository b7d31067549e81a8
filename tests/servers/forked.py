"""Commands as processes of their own that need not import everything anew.

A parent imports the command line once and forks for each command: a process with its own
environment, folder, standard streams and exit code, ready in a hundredth of the time that a fresh
interpreter takes. What an interpreter does before our code runs is left to tests that start one.
"""

import json
import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

TIMEOUT = 60.0


class Forking:
    """The parent. Use it as a context manager, from one thread."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={}
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def run(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        cwd: Path,
        text: str = "",
    ) -> subprocess.CompletedProcess[str]:
        """What `authapi` with these arguments did, fed with `text`."""
        with tempfile.TemporaryDirectory() as folder:
            streams = [Path(folder, name) for name in ("stdin", "stdout", "stderr")]
            streams[0].write_text(text, encoding="utf-8", errors="surrogateescape", newline="")
            request = {
                "arguments": list(arguments),
                "environment": dict(environment),
                "cwd": str(cwd),
                "streams": [str(path) for path in streams],
            }
            code = self._ask(request)
            out, err = (
                path.read_text(encoding="utf-8", errors="surrogateescape") for path in streams[1:]
            )
            return subprocess.CompletedProcess(["authapi", *arguments], code, out, err)

    def _ask(self, request: Mapping[str, object]) -> int:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()
        if not select.select([self._process.stdout], [], [], TIMEOUT)[0]:
            self._process.kill()
            raise TimeoutError(f"still running after {TIMEOUT} s: {request['arguments']}")
        return int(self._process.stdout.readline())


def serve() -> None:
    """Fork for each line on standard input, and answer with the exit code."""
    import authapi.app
    import authapi.cli
    import authapi.storage.migrations  # imported so that no child has to

    for line in sys.stdin.buffer:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            _become(request, authapi.cli.main)
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


def _become(request: Mapping[str, Any], main: Callable[[], None]) -> None:
    code = 1
    try:
        os.chdir(request["cwd"])
        os.environ.clear()
        os.environ.update(request["environment"])
        flags = (os.O_RDONLY, os.O_WRONLY | os.O_CREAT, os.O_WRONLY | os.O_CREAT)
        for number, path in enumerate(request["streams"]):
            os.dup2(os.open(path, flags[number], 0o600), number)
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.argv = ["authapi", *request["arguments"]]
        main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve()
