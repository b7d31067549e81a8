"""The services behind the proxies, as processes: `authapi serve`, and applications in uvicorn."""

import os
import re
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tests.proxies.testbed.accounts import Account
from tests.proxies.testbed.wire import Address
from tests.servers.process import ServeProcess, free_port

ROOT = Path(__file__).resolve().parents[3]
_MODULE = "tests.proxies.testbed.applications"
_LONGER_THAN_A_RUN = "86400"
_UNLIMITED = "1000000/second"
_LIMITS = ("ACCOUNT_AND_NETWORK", "ACCOUNT", "NETWORK", "TOTAL", "REGISTRATIONS")
_LOGGED = re.compile(
    r"^seen (\S+) (\S+)|\brequest\b.*?\bmethod=(\S+).*?\broute=(\S+)", re.MULTILINE
)

KINDS = ("serve", "imported", "surrounded", "protocol", "verifying")
"""`protocol` is `imported` under `uvicorn --http authapi:HTTPProtocol`."""


@dataclass
class Backend:
    """A running service with its accounts."""

    kind: str
    port: int
    process: ServeProcess
    accounts: list[Account] = field(default_factory=list)
    ready: str = "/health/ready"
    """The path that the proxies ask whether it is ready."""
    _read: int = 0

    @property
    def address(self) -> Address:
        return Address(self.port)

    @property
    def oracle(self) -> str:
        """The path of a route that returns the caller."""
        return "/echo" if self.kind == "verifying" else "/me"

    @property
    def targets(self) -> tuple[str, ...]:
        """Paths to attack: public, protected and unknown ones."""
        return {
            "serve": ("/login", "/token", "/me/password", "/health/live", "/nowhere"),
            "imported": ("/echo", "/public", "/login", "/me/password", "/nowhere"),
            "surrounded": ("/echo", "/public", "/login", "/closed"),
            "protocol": ("/echo", "/public", "/login", "/me/password", "/nowhere"),
            "verifying": ("/echo", "/public", "/health/live", "/nowhere"),
        }[self.kind]

    def seen(self) -> list[str]:
        """Returns the requests that reached the application since the last call: `METHOD TARGET`.

        `serve` logs them in its access log, with the pattern of the route as target.
        """
        with self.process.stdout.open(encoding="utf-8", errors="replace") as file:
            file.seek(self._read)
            text = file.read()
            self._read = file.tell()
        return [" ".join(part for part in found if part) for found in _LOGGED.findall(text)]


class Backends:
    """Starts each kind of service on first access; all run until `close`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._stack = ExitStack()
        self._found: dict[str, Backend] = {}

    def __getitem__(self, kind: str) -> Backend:
        if kind not in self._found:
            self._found[kind] = self._start(kind)
        return self._found[kind]

    def close(self) -> None:
        self._stack.close()

    def _start(self, kind: str) -> Backend:
        port = free_port()
        environment = self._environment(kind)
        issuer = self if kind != "verifying" else self["serve"]
        if isinstance(issuer, Backend):
            environment["TEST_ISSUER"] = "https://localhost"
            environment["TEST_KEYS"] = f"http://127.0.0.1:{issuer.port}/.well-known/jwks.json"
        process = ServeProcess(_command(kind, port), environment, self._directory)
        self._stack.enter_context(process)
        backend = Backend(kind, port, process)
        if kind == "verifying":  # it has no database
            backend.ready = "/health/live"
        process.wait_ready(f"http://127.0.0.1:{port}{backend.ready}", timeout=60)
        registrar = issuer if isinstance(issuer, Backend) else backend
        backend.accounts = [Account.new(registrar.address) for _ in range(5)]
        return backend

    def _environment(self, kind: str) -> dict[str, str]:
        settings: Mapping[str, str] = {
            "DATA_DIR": str(self._directory / kind),
            "PUBLIC_URL": "https://localhost",
            "TRUSTED_PROXIES": "127.0.0.0/8",
            "ACCESS_LOG": "true" if kind == "serve" else "false",
            "JWT_LIFETIME": _LONGER_THAN_A_RUN,
            **{f"LIMIT_{name}": _UNLIMITED for name in _LIMITS},
        }
        inherited = {
            name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ
        }
        return {**inherited, **{f"AUTHAPI_{name}": value for name, value in settings.items()}}


def _command(kind: str, port: int) -> list[str]:
    if kind == "serve":
        return [sys.executable, "-m", "authapi", "serve", "--port", str(port)]
    name = "imported" if kind == "protocol" else kind
    command = [sys.executable, "-m", "uvicorn", "--factory", f"{_MODULE}:{name}"]
    command += ["--app-dir", str(ROOT), "--port", str(port), "--no-access-log"]
    return [*command, "--http", "authapi:HTTPProtocol"] if kind == "protocol" else command
