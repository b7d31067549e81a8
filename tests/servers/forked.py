"""Runs commands as forked processes, without new imports.

A parent process imports the command line once and forks for each command. The child has its own
environment, folder, standard streams and exit code, and starts in a hundredth of the time of a new
interpreter. Tests of the start of the interpreter itself start a real one.
"""

import gc
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:  # the parent runs this file as a script
    from tests.servers.process import ServeProcess

TIMEOUT = 60.0

IMPORTED = (
    # Modules that commands import lazily, imported here for all children.
    *("authapi.app", "authapi.cli.serving.serve", "authapi.storage.migrations"),
    *("authapi.cli.accounts.events", "authapi.cli.accounts.tailing", "authapi.cli.accounts.users"),
    *("authapi.cli.configuration.config", "authapi.cli.configuration.inspect", "authapi.cli.db"),
    *("authapi.cli.doctor", "authapi.cli.keys", "authapi.cli.mail", "authapi.cli.monitoring.stats"),
    *("authapi.cli.providers", "authapi.cli.prune"),
    *("authapi.cli.verify", "authapi.cli.webhooks", "authapi.verify"),
    *("authapi.services.mail.compiled_templates", "authapi.web.pages.own_templates.examples"),
    *("authapi.storage.schema.filters", "authapi.storage.schema.indexes"),
    *("alembic.command", "alembic.config", "alembic.context", "alembic.autogenerate"),
    *("alembic.ddl.postgresql", "alembic.ddl.sqlite", "cryptography.hazmat.backends.openssl"),
    *("email.generator", "babel.dates", "babel.messages.mofile", "babel.messages.pofile"),
    *("babel.support", "jinja2.ext", "jinja2.sandbox", "encodings.ascii"),
    *("encodings.unicode_escape", "rich.console", "rich.progress", "rich.table"),
    *("typer._adapters", "typer._click._textwrap", "typer._click.decorators"),
    *("authapi.strategies.session", "authapi.strategies.token", "authapi.strategies.jwt"),
    *("sqlalchemy.dialects.sqlite.aiosqlite", "sqlalchemy.dialects.postgresql.psycopg"),
    *("aiosqlite", "psycopg", "argon2", "passlib.handlers.argon2"),
    *("uvicorn.lifespan.on", "uvicorn.loops.uvloop"),
    *("uvicorn.protocols.http.httptools_impl",),
    *("uvicorn.protocols.websockets.websockets_sansio_impl",),
)


class Forking:
    """The parent process. Use it as a context manager."""

    def __enter__(self) -> Self:
        self._turn = threading.Lock()
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
        # At the end of its input, the parent ends the processes that it has started.
        with suppress(subprocess.TimeoutExpired):
            self._process.communicate(timeout=5)
        self._process.kill()
        self._process.communicate()

    def run(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        cwd: Path,
        text: str = "",
        *,
        redirected: Mapping[int, Path | None] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Runs `authapi` with these arguments and `text` on standard input; returns the result.

        `redirected` has a file for the standard streams 0 to 2, or None for one that is closed. The
        result has no text of it.
        """
        with tempfile.TemporaryDirectory() as folder:
            own = [Path(folder, name) for name in ("stdin", "stdout", "stderr")]
            for path in own:
                path.touch()
            own[0].write_text(text, encoding="utf-8", errors="surrogateescape", newline="")
            streams = [(redirected or {}).get(number, path) for number, path in enumerate(own)]
            code = self._ask(_request("run", arguments, environment, cwd, streams))
            assert code is not None
            out, err = (
                path.read_text(encoding="utf-8", errors="surrogateescape") for path in own[1:]
            )
            return subprocess.CompletedProcess(["authapi", *arguments], code, out, err)

    def start(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        directory: Path,
        program: str = "authapi",
    ) -> "ServeProcess":
        """Starts a program with these arguments as a running process, like `ServeProcess`.

        The `program` is `authapi` or `uvicorn`.
        """
        from tests.servers.process import ServeProcess

        forking = self

        class Forked(ServeProcess):
            def _start(self, command: Sequence[str], environment: Mapping[str, str]) -> "_Child":
                streams = [Path(os.devnull), self.stdout, self.stderr]
                request = _request("start", command, environment, directory, streams, program)
                return _Child(forking, request)

        return Forked(arguments, environment, directory)

    def _ask(self, request: Mapping[str, object]) -> int | None:
        assert self._process.stdin
        assert self._process.stdout
        with self._turn:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
            if not select.select([self._process.stdout], [], [], TIMEOUT)[0]:
                self._process.kill()
                raise TimeoutError(f"still running after {TIMEOUT} s: {request}")
            answer: int | None = json.loads(self._process.stdout.readline())
            return answer


class _Child:
    """A started process, with the interface of `subprocess.Popen`."""

    def __init__(self, forking: Forking, request: Mapping[str, object]) -> None:
        pid = forking._ask(request)
        assert pid is not None
        self.pid = pid
        self.returncode: int | None = None
        self._forking = forking
        self._arguments = request["arguments"]

    def wait(self, timeout: float | None = None) -> int:
        deadline = None if timeout is None else time.monotonic() + timeout
        while self.returncode is None:
            self.returncode = self._forking._ask({"do": "look", "pid": self.pid})
            if self.returncode is not None:
                break
            if deadline is not None and time.monotonic() >= deadline:
                raise subprocess.TimeoutExpired(str(self._arguments), timeout or 0)
            time.sleep(0.01)  # polls, as Popen does for a timeout
        return self.returncode

    def terminate(self) -> None:
        if self.returncode is None:
            os.kill(
                self.pid, signal.SIGTERM
            )  # the pid stays reserved until `wait` has the exit code


def _request(
    do: str,
    arguments: Sequence[str],
    environment: Mapping[str, str],
    cwd: Path,
    streams: Sequence[Path | None],
    program: str = "authapi",
) -> Mapping[str, object]:
    return {
        "do": do,
        "program": program,
        "arguments": list(arguments),
        "environment": dict(environment),
        "cwd": str(cwd),
        "streams": [None if path is None else str(path) for path in streams],
    }


def serve() -> None:
    """Handles one request per line of standard input, and responds with one line.

    `run` runs a command and returns its exit code. `start` starts one and returns its pid. `look`
    returns the exit code of a started one, or null while it runs.
    """
    for name in IMPORTED:
        importlib.import_module(name)
    from uvicorn.main import main as run_uvicorn

    from authapi.cli.commands import main as run_authapi

    _compile_pages()
    programs: dict[str, Callable[[], Any]] = {"authapi": run_authapi, "uvicorn": run_uvicorn}
    # Otherwise the garbage collector of each child would copy all pages: a tenth of a second.
    gc.freeze()
    running: set[int] = set()
    for line in sys.stdin.buffer:
        request = json.loads(line)
        if request["do"] == "look":
            answer = _ended(request["pid"], os.WNOHANG)
            if answer is not None:
                running.discard(request["pid"])
        else:
            child = os.fork()
            if child == 0:
                _become(request, programs[request["program"]])
            if request["do"] == "start":
                # Parent and child both do this, so that the group exists before either continues.
                with suppress(PermissionError, ProcessLookupError):
                    os.setpgid(child, child)
                running.add(child)
                answer = child
            else:
                answer = _ended(child, 0)
        sys.stdout.write(f"{json.dumps(answer)}\n")
        sys.stdout.flush()
    for child in running:  # the process that started them has ended
        with suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _compile_pages() -> None:
    """Compiles the templates of the pages for all children: each `doctor` renders all of them."""
    from authapi import Settings
    from authapi.web.pages.site import Site

    pages = Site(Settings(database_url="sqlite:////nonexistent"))  # type: ignore[arg-type]
    environment = pages._environment("en")
    for name in environment.list_templates(extensions=["html"]):
        environment.get_template(name)


def _ended(child: int, options: int) -> int | None:
    found, status = os.waitpid(child, options)
    return os.waitstatus_to_exitcode(status) if found else None


def _become(request: Mapping[str, Any], main: Callable[[], Any]) -> None:
    code = 1
    try:
        if request["do"] == "start":
            os.setpgid(0, 0)
        os.chdir(request["cwd"])
        os.environ.clear()
        os.environ.update(request["environment"])
        time.tzset()
        flags = (os.O_RDONLY, os.O_WRONLY | os.O_CREAT, os.O_WRONLY | os.O_CREAT)
        for number, path in enumerate(request["streams"]):
            if path is not None:
                os.dup2(os.open(path, flags[number], 0o600), number)
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        # Line buffering, because tests read the output while the process runs.
        sys.stderr = open(2, "w", 1, encoding="utf-8", closefd=False)  # noqa: SIM115
        for number, name in enumerate(("stdin", "stdout", "stderr")):
            if request["streams"][number] is None:  # a new interpreter has None for it too
                os.close(number)
                setattr(sys, name, None)
        sys.argv = [request["program"], *request["arguments"]]
        main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(AttributeError, OSError):  # closed, or full, which `main` has reported
                stream.flush()
        os._exit(code)


if __name__ == "__main__":
    serve()
