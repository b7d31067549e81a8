"""What a running service has imported, and where it imports more."""

import email
import email.policy
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pyotp
import pytest

from tests.cli.processes import ACCOUNT, environment_in
from tests.servers.process import ServeProcess, free_port
from tests.soft_authenticator import SoftAuthenticator

# Writes which modules there are when the service begins to listen, and what the event loop imports
# from then on.
_PROGRAM = """
import asyncio, sys
from uvicorn.server import Server

startup, folder = Server.startup, sys.argv.pop(1)

class Recorder:
    def find_spec(self, name, path=None, target=None):
        # `find_spec` of importlib only asks for a module.
        frame, asks = sys._getframe(1), False
        while frame is not None and "importlib" in frame.f_code.co_filename:
            asks = asks or "importlib.util" in frame.f_code.co_filename.replace("/", ".")
            frame = frame.f_back
        if asyncio._get_running_loop() is not None and not asks:
            with open(f"{folder}/on-the-loop", "a") as file:
                print(name, file=file)

async def start(self, *arguments, **options):
    await startup(self, *arguments, **options)
    with open(f"{folder}/modules", "w") as file:
        print(*{name.partition(".")[0] for name in sys.modules}, file=file)
    sys.meta_path.insert(0, Recorder())

Server.startup = start
from authapi.cli.commands import main
main()
"""
_TOKEN = re.compile("token=([A-Za-z0-9_-]+)")
_LATE = {
    *("alembic", "mako", "typer", "rich", "pygments", "markdown_it", "shellingham"),
    *("jinja2", "babel", "webauthn", "segno", "httpx", "httpcore", "aiosmtplib"),
    *("prometheus_client", "redis", "cbor2"),
}


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def service(tmp_path: Path, port: int) -> Iterator[ServeProcess]:
    (tmp_path / "program.py").write_text(_PROGRAM)
    environment = environment_in(tmp_path, AUTHAPI_DATABASE_URL=f"sqlite:///{tmp_path}/a.db")
    upgrade = [sys.executable, "-m", "authapi", "db", "upgrade"]
    with ServeProcess(upgrade, environment, tmp_path) as upgraded:
        assert upgraded.wait(60) == 0, upgraded.output()
    command = [sys.executable, str(tmp_path / "program.py"), str(tmp_path), "serve"]
    with ServeProcess([*command, "--port", str(port)], environment, tmp_path) as process:
        process.wait_ready(f"http://127.0.0.1:{port}/health/ready")
        yield process


def test_a_service_imports_late_and_in_threads(
    service: ServeProcess, port: int, tmp_path: Path
) -> None:
    assert not _LATE & set((tmp_path / "modules").read_text().split())
    html = {"Accept": "text/html"}
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30) as http:

        def expect(status: int, method: str, path: str, **options: object) -> httpx.Response:
            response = http.request(method, path, **options)  # type: ignore[arg-type]
            assert response.status_code == status, (path, response.text)
            return response

        expect(201, "POST", "/register", json=ACCOUNT)
        jwt = expect(200, "POST", "/login", json={**ACCOUNT, "strategy": "jwt"}).json()
        form = {"grant_type": "refresh_token", "refresh_token": jwt["refresh_token"]}
        expect(200, "POST", "/token", data=form)
        bearer = {"Authorization": f"Bearer {jwt['access_token']}"}
        expect(200, "GET", "/me", headers=bearer)
        expect(202, "POST", "/password/forgot", json={"email": ACCOUNT["email"]})
        confirm, _ = _mails(tmp_path / "data" / "mail", 2)
        token = {"token": _TOKEN.findall(confirm)[0]}
        expect(204, "POST", "/email/confirm", headers=bearer, json=token)
        passkey = SoftAuthenticator(origin=f"http://localhost:{port}")
        options = expect(200, "POST", "/me/factors/passkeys/options", headers=bearer).json()
        added = {"name": "Laptop", "credential": passkey.create(options)}
        expect(201, "POST", "/me/factors/passkeys", headers=bearer, json=added)
        options = expect(200, "POST", "/login/passkey/options", json={}).json()
        expect(200, "POST", "/login/passkey", json={"credential": passkey.get(options)})
        enrolled = expect(201, "POST", "/me/factors/totp", headers=bearer).json()
        assert enrolled["qr_svg"].startswith("<svg")
        code = {"code": pyotp.TOTP(enrolled["secret"]).now()}
        expect(200, "POST", "/me/factors/totp/confirm", headers=bearer, json=code)
        expect(401, "POST", "/login", json=ACCOUNT)
        for path in ("/account/sign-in", "/account/sign-up", "/account/forgot"):
            expect(200, "GET", path, headers=html)
        expect(404, "GET", "/account/missing", headers=html)
        for path in ("/docs", "/openapi.json", "/.well-known/jwks.json", "/health/ready"):
            expect(200, "GET", path)
        expect(404, "GET", "/missing")
    assert service.terminate() == 0
    found = tmp_path / "on-the-loop"
    assert not found.exists(), found.read_text()


def _mails(folder: Path, count: int) -> list[str]:
    """Waits for this number of mails, and returns their texts, the first first."""
    deadline = time.monotonic() + 30
    while len(found := sorted(folder.glob("*.eml"))) < count:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    texts = []
    for path in found:
        message = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
        body = message.get_body(("plain",))
        assert body is not None
        texts.append(body.get_content())
    return texts
