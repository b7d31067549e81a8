"""Reverse proxies for tests: Caddy, nginx and HAProxy with the files of deploy/, on free ports.

`strict` is the shipped file. `lax` passes on every Upgrade field, as some other configurations do,
and HAProxy then shares its connections between all clients, which is harder for the service.
"""

import os
import re
import ssl
import time
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.proxies.testbed.backends import ROOT, Backend
from tests.proxies.testbed.programs import program
from tests.proxies.testbed.wire import Address, NoAnswer, ask
from tests.servers.process import ServeProcess, free_port

Strictness = Literal["strict", "lax"]
NAMES = ("caddy", "nginx", "haproxy")
DEPLOY = ROOT / "deploy"

_LAX = {
    "caddy": ("\trequest_header @other_upgrade -Upgrade\n", ""),
    "nginx": ('map "$request_method $http_upgrade" $websocket {\n    default "";', None),
    "haproxy": ("    http-request del-header Upgrade unless METH_GET one_upgrade websocket\n", ""),
}


class Certificate:
    """A self-signed certificate for `localhost`, in the formats of nginx and HAProxy."""

    def __init__(self, directory: Path) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
        now = datetime.now(UTC)
        made = (
            x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
            .sign(key, hashes.SHA256())
        )
        pem = serialization.Encoding.PEM
        private = key.private_bytes(
            pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        self.public, self.key = directory / "certificate.pem", directory / "key.pem"
        self.both = directory / "both.pem"
        self.public.write_bytes(made.public_bytes(pem))
        self.key.write_bytes(private)
        self.both.write_bytes(made.public_bytes(pem) + private)


class Proxies:
    """Starts each proxy in front of a backend on first access; all run until `close`.

    `changes` are what is replaced in the shipped files, by the name of the proxy.
    """

    def __init__(
        self, directory: Path, changes: Mapping[str, tuple[str, str]] | None = None
    ) -> None:
        self._directory = directory
        self._changes = changes or {}
        self._stack = ExitStack()
        self._found: dict[tuple[str, str, Strictness], Address] = {}
        self._certificate = Certificate(directory)

    def address(
        self, name: str, backend: Backend, strictness: Strictness, *, port: int | None = None
    ) -> Address:
        """Returns the address of the proxy `name` in front of `backend`; `port` is a free one."""
        key = (name, backend.kind, strictness)
        if key not in self._found:
            self._found[key] = self._start(*key, backend, port or free_port())
        return self._found[key]

    def close(self) -> None:
        self._stack.close()

    def _start(
        self, name: str, kind: str, strictness: Strictness, backend: Backend, port: int
    ) -> Address:
        folder = self._directory / f"{name}-{kind}-{strictness}"
        folder.mkdir(exist_ok=True)
        # The shipped files have two backends; here both are one process. With a single backend, all
        # connections are shared.
        ports = [backend.port] * (2 if strictness == "strict" else 1)
        text = _lax(name, text_of(name)) if strictness == "lax" else text_of(name)
        # A resource server has no database, so it has no readiness check.
        text = text.replace("/health/ready", backend.ready)
        if name in self._changes:
            found, changed = self._changes[name]
            assert found in text, f"the file of {name} has changed: {found!r} is not in it"
            text = text.replace(found, changed)
        environment = {"PATH": os.environ["PATH"], "HOME": str(folder)}
        if name == "caddy":
            environment |= {
                "XDG_DATA_HOME": str(folder),
                "SITE_ADDRESS": f"https://localhost:{port}",
                "UPSTREAMS": " ".join(f"127.0.0.1:{each}" for each in ports),
            }
        else:
            text = placed(text, port, ports, self._certificate, folder)
        process = ServeProcess(command(name, written(name, text, folder)), environment, folder)
        self._stack.enter_context(process)
        root = folder / "caddy/pki/authorities/local/root.crt"
        trusted = self._certificate.public if name != "caddy" else root
        return _waited(process, port, trusted, backend.ready)


def text_of(name: str) -> str:
    """Returns the file of deploy/ for the proxy `name`."""
    file = {"caddy": "Caddyfile", "nginx": "nginx.conf", "haproxy": "haproxy.cfg"}[name]
    return (DEPLOY / file).read_text("utf-8")


def placed(text: str, port: int, ports: list[int], certificate: Certificate, folder: Path) -> str:
    """Returns a file of nginx or HAProxy with the ports, paths and addresses of this machine."""
    text = text.replace("443 ssl", f"{port} ssl")
    text = text.replace("/etc/ssl/authapi/certificate.pem", str(certificate.public))
    text = text.replace("/etc/ssl/authapi/key.pem", str(certificate.key))
    text = text.replace("/etc/haproxy/authapi.pem", str(certificate.both))
    text = text.replace("/var/log/nginx/", f"{folder}/")
    lines = []
    for line in text.splitlines():
        number = re.search(r"^ +server\b.*127\.0\.0\.1:800(\d)", line)
        if number is None:
            lines.append(line)
        elif int(number[1]) < len(ports):
            lines.append(line.replace(f":800{number[1]}", f":{ports[int(number[1])]}"))
    return "\n".join([*lines, ""])


def written(name: str, text: str, folder: Path) -> Path:
    """Writes a file with which the proxy can start to `folder`; returns its path."""
    file = folder / f"{name}.conf"
    file.write_text(text, "utf-8")
    if name != "nginx":
        return file
    # Replaces the distribution's nginx.conf, which includes files of conf.d.
    temporary = "".join(
        f"    {kind}_temp_path {folder}/{kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "user root;\n" if os.geteuid() == 0 else ""
    main = folder / "main.conf"
    main.write_text(
        f"{user}daemon off;\nworker_processes 1;\npid {folder}/nginx.pid;\nerror_log stderr warn;\n"
        f"events {{}}\nhttp {{\n{temporary}    include {file};\n}}\n",
        "utf-8",
    )
    return main


def command(name: str, file: Path) -> list[str]:
    """Returns the command that starts the proxy `name` with `file` in the foreground."""
    path = program(name)
    return {
        "caddy": [path, "run", "--adapter", "caddyfile", "--config", str(file)],
        "nginx": [path, "-e", "stderr", "-c", str(file)],
        "haproxy": [path, "-db", "-f", str(file)],
    }[name]


def _lax(name: str, text: str) -> str:
    strict, lax = _LAX[name]
    assert strict in text, f"the file of {name} has changed: {strict!r} is not in it"
    if lax is None:
        lax = strict.replace('default ""', "default $http_upgrade")
        # Removes values that end in a space.
        lax += '\n    "~ $" "";'
    return text.replace(strict, lax).replace("http-reuse safe", "http-reuse always")


def _waited(process: ServeProcess, port: int, root: Path, path: str) -> Address:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if root.exists():
            try:
                address = Address(port, ssl.create_default_context(cafile=str(root)))
                if ask(address, "GET", path).status == 200:
                    return address
            except (OSError, AssertionError, NoAnswer):
                pass
        time.sleep(0.02)
    raise TimeoutError(process.output())
