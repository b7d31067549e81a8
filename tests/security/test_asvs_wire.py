"""Requirements of OWASP ASVS 5.0 that concern the process: its socket, files and output."""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from authapi.testing import PASSWORD
from tests.security.attack import SECRET
from tests.servers.forked import Forking
from tests.servers.process import ServeProcess, free_port
from tests.servers.valkey import ValkeyServer

CANARY = "k4n4r13nv0g3l"


@dataclass
class Served:
    """A running service."""

    http: httpx.Client
    port: int
    folder: Path
    process: ServeProcess

    def send(self, *chunks: bytes) -> bytes:
        """Send these bytes. Returns what the service sends until it closes or is idle."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection:
            for chunk in chunks:
                connection.sendall(chunk)
            connection.shutdown(socket.SHUT_WR)
            answer = b""
            while data := connection.recv(65536):
                answer += data
        return answer


@pytest.fixture
def production(tmp_path: Path, forking: Forking) -> Iterator[Served]:
    """`authapi serve` as in production, in a time zone other than UTC."""
    port, folder = free_port(), tmp_path / "served"
    folder.mkdir(mode=0o700)
    secret = tmp_path / "secret-file"
    secret.write_text(SECRET + "\n")
    secret.chmod(0o600)
    environment = {
        "PATH": os.environ["PATH"],
        "TZ": "Asia/Tokyo",
        "AUTHAPI_ENV": "production",
        "AUTHAPI_SECRET_FILE": str(secret),
        "AUTHAPI_PUBLIC_URL": "https://auth.example.com",
        "AUTHAPI_DATABASE_URL": f"sqlite:///{folder / 'authapi.db'}",
        "AUTHAPI_ALLOW_SQLITE": "true",
        "AUTHAPI_ACCESS_LOG": "true",
    }
    url = f"http://127.0.0.1:{port}"
    with forking.start(["serve", "--port", str(port)], environment, tmp_path) as process:
        process.wait_ready(f"{url}/health/ready", timeout=60)
        with httpx.Client(base_url=url, trust_env=False) as http:
            yield Served(http, port, folder, process)


GET = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"
AMBIGUOUS = {
    "length and chunked": b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": b"Content-Length: 2\r\nContent-Length: 4\r\n\r\n{}{}",
    "a list of lengths": b"Content-Length: 2, 4\r\n\r\n{}{}",
    "a negative length": b"Content-Length: -1\r\n\r\n{}",
    "a space before the colon": b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "chunked and not": b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "no chunk size": b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n\r\n",
}


def test_v4_2_1_ambiguous_message_framing_is_rejected(production: Served) -> None:
    for reason, rest in AMBIGUOUS.items():
        answer = production.send(b"POST /login HTTP/1.1\r\nHost: x\r\n" + rest + GET)
        assert answer.startswith(b"HTTP/1.1 400 "), (reason, answer)
        assert answer.count(b"HTTP/1.1 ") == 1, (reason, answer)
    assert production.send(GET).startswith(b"HTTP/1.1 200 ")


def test_v13_4_no_unintended_paths_or_methods_exist(production: Served) -> None:
    for path in ("/.git/HEAD", "/.svn/entries", "/.env", "/static/", "/docs", "/openapi.json"):
        answer = production.http.get(path)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), path
    for path in ("/metrics", "/debug", "/graphql", "/docs/", "/..%2f..%2fetc/passwd"):
        assert production.http.get(path).status_code == 404, path
    for method in ("TRACE", "TRACK", "DEBUG"):
        answer = production.http.request(method, "/me", headers={"X-Canary": CANARY})
        assert answer.status_code in (400, 405), method
        assert CANARY not in answer.text
    live = production.http.get("/health/live")
    assert live.json() == {"status": "ok"}
    assert "server" not in live.headers


def test_v13_3_secrets_are_read_from_files_and_not_disclosed(
    production: Served, tmp_path: Path, forking: Forking
) -> None:
    account = {"email": "alice@example.com", "password": PASSWORD}
    assert production.http.post("/register", json=account).status_code == 201
    keys = production.http.get("/.well-known/jwks.json").json()["keys"]
    assert keys
    assert all(key.keys() == {"kty", "crv", "x", "y", "kid", "alg", "use"} for key in keys)
    production.process.terminate()
    assert SECRET not in production.process.output()
    for path in production.folder.rglob("*"):
        assert SECRET.encode() not in path.read_bytes()
    # Without a configured secret, the service generates one, which only it can read.
    port, folder = free_port(), tmp_path / "own"
    environment = {"PATH": os.environ["PATH"], "AUTHAPI_DATA_DIR": str(folder)}
    with forking.start(["serve", "--port", str(port)], environment, tmp_path) as process:
        process.wait_ready(f"http://127.0.0.1:{port}/health/ready", timeout=60)
        assert folder.stat().st_mode & 0o777 == 0o700
        assert (folder / "secret").stat().st_mode & 0o777 == 0o600
        assert (folder / "secret").read_text().strip() not in process.output()


def test_v16_2_log_consists_of_json_lines_in_utc(production: Served) -> None:
    agent = b'"} {"event": "login"}\x9b31m'
    account = {"email": "alice@example.com", "password": PASSWORD}
    with httpx.Client(base_url=production.http.base_url, trust_env=False) as http:
        http.headers = httpx.Headers({b"user-agent": agent})
        assert http.post("/register", json=account).status_code == 201
        bad = http.post("/login", json={**account, "password": CANARY * 2})
        good = http.post("/login", json={**account, "strategy": "token"})
    assert (bad.status_code, good.status_code) == (401, 200)
    token = good.json()["access_token"]
    held = {"Authorization": f"Bearer {token}"}
    assert production.http.post("/logout", headers=held).status_code == 204
    assert production.process.terminate() == 0
    assert production.process.stderr.read_text() == ""
    text = production.process.stdout.read_text()
    for secret in (PASSWORD, CANARY, token, "\x9b"):
        assert secret not in text
    lines = [json.loads(line) for line in text.splitlines()]
    for line in lines:
        at = datetime.fromisoformat(line["timestamp"])
        assert at.utcoffset() == timedelta(0)
        assert abs(datetime.now(UTC) - at) < timedelta(minutes=5)
    events = {line["event"]: line for line in lines if line["logger"] == "authapi.events"}
    assert events.keys() == {"account_registered", "login_refused", "login", "logout"}
    for name, line in events.items():
        assert line["outcome"] == ("refused" if name == "login_refused" else "success")
        assert line["ip"] == "127.0.0.1"
        assert {"request_id", "event_id", "user_id", "user_agent"} <= line.keys()
    assert events["login"]["request_id"] == good.headers["x-request-id"]
    assert events["login"]["strategy"] == "token"
    assert {path.name for path in production.folder.iterdir()} <= {
        "authapi.db",
        "authapi.db-wal",
        "authapi.db-shm",
    }


def remote_ports(pid: int, own: int) -> set[int]:
    """The remote ports of a process that listens on `own`, for its outgoing TCP connections."""
    held = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed in the meantime
            held.add(str(entry.readlink()))
    found = set()
    for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        here, there = (int(fields[at].rpartition(":")[2], 16) for at in (1, 2))
        if f"socket:[{fields[9]}]" in held and here != own and there != 0:
            found.add(there)
    return found


def test_v13_1_1_service_connects_only_to_configured_hosts(
    tmp_path: Path, postgres_url: str, valkey: ValkeyServer, forking: Forking
) -> None:
    port, databases = free_port(), {}
    for name, url in (("database_url", postgres_url), ("redis_url", valkey.url)):
        databases[name] = urlsplit(url).port
    environment = {
        "PATH": os.environ["PATH"],
        "AUTHAPI_DATA_DIR": str(tmp_path / "data"),
        "AUTHAPI_DATABASE_URL": postgres_url,
        "AUTHAPI_REDIS_URL": valkey.url,
    }
    url = f"http://127.0.0.1:{port}"
    with (
        forking.start(["serve", "--port", str(port)], environment, tmp_path) as process,
        httpx.Client(base_url=url, trust_env=False) as http,
    ):
        process.wait_ready(f"{url}/health/ready", timeout=60)
        account = {"email": "alice@example.com", "password": PASSWORD}
        assert http.post("/register", json=account).status_code == 201
        assert http.post("/login", json=account).status_code == 200
        assert http.get("/me").status_code == 200
        assert remote_ports(process.pid, port) == set(databases.values())
