"""The life of an account below a prefix, by the links in mails, in process and over a socket.

The client knows the URL of the metadata only. It follows the links, the forms and the endpoints.
"""

import email.policy
import os
import re
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email import message_from_bytes
from email.message import EmailMessage
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import anyio
import httpx
import pytest
from fastapi import Depends, FastAPI

from authapi import AuthAPI, Identity, Settings, current_identity
from authapi.settings import EdgeSettings
from authapi.testing import PASSWORD, client
from authapi.verify import RemoteJWT, ResourceServer
from tests.servers.process import ServeProcess, free_port

PREFIX = "/api/v1/auth"
ALICE, NEW = "alice@example.com", "alice@example.org"
OTHER = "another horse, another battery"

PROGRAM = f"""
from fastapi import FastAPI
from authapi import AuthAPI

auth = AuthAPI()
app = FastAPI(lifespan=auth.lifespan)
auth.install(app, prefix="{PREFIX}")
"""


@dataclass
class Visitor:
    """A browser and a mailbox. `base` is the public URL of the application."""

    http: httpx.AsyncClient
    base: str
    mails: Path
    _read: int = 0

    async def link(self, to: str) -> str:
        """The link in the next mail, which must be for this address and have a link."""
        message = await self.mail()
        body = message.get_body(("plain",))
        assert body is not None
        assert message["to"] == to
        found_links = re.findall(r"http://\S+", body.get_content())
        assert len(found_links) == 1, body.get_content()
        link: str = found_links[0]
        assert link.startswith(f"{self.base}{PREFIX}/account/")
        return link

    async def mail(self) -> EmailMessage:
        """The next mail."""
        with anyio.fail_after(30):
            while True:
                found = sorted(self.mails.glob("*.eml"))[self._read :]
                if found:
                    self._read += 1
                    content = found[0].read_bytes()
                    return message_from_bytes(content, EmailMessage, policy=email.policy.default)
                await anyio.sleep(0.02)

    async def fill_in(self, url: str, **fields: str) -> str:
        """Opens a page and sends its first form; returns the page of the result."""
        page = await self.http.get(url)
        assert page.status_code == 200, page.text
        style = re.search(r'<link rel="stylesheet" href="([^"]+)"', page.text)
        assert style is not None
        assert (await self.http.get(urljoin(url, style[1]))).status_code == 200
        main = page.text[page.text.index("<main") :]
        action = re.search(r'<form method="post" action="([^"]+)"', main)
        token = re.search(r'name="token" value="([^"]+)"', page.text)
        assert action is not None
        hidden = {"token": token[1]} if token else {}
        answer = await self.http.post(
            urljoin(url, action[1]),
            data={**hidden, **fields},
            headers={"origin": f"http://{urlsplit(url).netloc}"},
            follow_redirects=True,
        )
        assert answer.status_code == 200, answer.text
        assert 'role="status"' in answer.text
        return answer.text

    async def call(self, method: str, path: str, **options: object) -> httpx.Response:
        url = f"{self.base}{PREFIX}{path}"
        return await self.http.request(method, url, **options)  # type: ignore[arg-type]  # httpx's

    async def login(self, address: str, password: str, strategy: str = "session") -> httpx.Response:
        self.http.cookies.clear()
        body = {"email": address, "password": password, "strategy": strategy}
        return await self.call("POST", "/login", json=body)


async def live(visitor: Visitor) -> str:
    """Lives the life of an account; returns a JWT of its last login, which is still valid."""
    account = {"email": ALICE, "password": PASSWORD, "name": "Alice"}
    assert (await visitor.call("POST", "/register", json=account)).status_code == 202
    await visitor.fill_in(await visitor.link(ALICE), password=PASSWORD)
    answer = await visitor.login(ALICE, PASSWORD)
    assert answer.status_code == 200
    assert "; Path=/;" in answer.headers["set-cookie"]
    assert (await visitor.call("GET", "/me")).json()["name"] == "Alice"

    # An expired link leads to the page that sends another one.
    refused = await visitor.http.get(f"{visitor.base}{PREFIX}/account/reset")
    assert refused.status_code == 400
    again = re.search(r'<a class="button primary" href="([^"]+)"', refused.text)
    assert again is not None
    await visitor.fill_in(urljoin(str(refused.url), again[1]), email=ALICE)
    await visitor.fill_in(await visitor.link(ALICE), new_password=OTHER)
    await visitor.mail()  # the notification about the new password
    assert (await visitor.call("GET", "/me")).status_code == 401
    assert (await visitor.login(ALICE, OTHER)).status_code == 200

    change = await visitor.call("POST", "/me/email", json={"email": NEW})
    assert change.status_code == 202
    await visitor.fill_in(await visitor.link(NEW))
    assert (await visitor.call("GET", "/me")).json()["email"] == NEW
    assert "/account/undo?" in await visitor.link(ALICE)

    tokens = (await visitor.login(NEW, OTHER, "jwt")).json()
    metadata = await discover(visitor)
    form = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
    refreshed = (await visitor.http.post(metadata["token_endpoint"], data=form)).json()
    bearer = {"authorization": f"Bearer {refreshed['access_token']}"}
    assert (await visitor.call("GET", "/me", headers=bearer)).json()["email"] == NEW
    assert (await visitor.call("POST", "/logout", headers=bearer)).status_code == 204
    ended = await visitor.call("GET", "/me", headers=bearer)
    assert ended.status_code == 401
    assert await resource_of(visitor, ended) == visitor.base

    assert (await visitor.login(NEW, OTHER)).status_code == 200
    ended = await visitor.call("POST", "/logout")
    assert ended.status_code == 204
    assert "Max-Age=0" in ended.headers["set-cookie"]
    return str((await visitor.login(NEW, OTHER, "jwt")).json()["access_token"])


async def discover(visitor: Visitor) -> dict[str, str]:
    """Reads the metadata where RFC 8414, section 3.1, places it; checks its members."""
    host, path = re.fullmatch(r"(http://[^/]+)(.*)", f"{visitor.base}{PREFIX}").groups()  # type: ignore[union-attr]  # it matches
    answer = await visitor.http.get(f"{host}/.well-known/oauth-authorization-server{path}")
    assert answer.status_code == 200, answer.text
    assert answer.headers["access-control-allow-origin"] == "*"
    found: dict[str, str] = answer.json()
    assert found["issuer"] == f"{visitor.base}{PREFIX}"
    for name in ("token_endpoint", "revocation_endpoint", "introspection_endpoint", "jwks_uri"):
        assert found[name].startswith(f"{visitor.base}{PREFIX}/"), name
    keys = await visitor.http.get(found["jwks_uri"])
    assert keys.json()["keys"]
    assert keys.headers["access-control-allow-origin"] == "*"
    form = {"grant_type": "refresh_token", "refresh_token": "x"}
    refused = await visitor.http.post(found["token_endpoint"], data=form)
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_grant")
    return found


async def resource_of(visitor: Visitor, refused: httpx.Response) -> str:
    """Reads the metadata that the challenge of a 401 names; returns the resource."""
    challenge = refused.headers["www-authenticate"]
    found = re.search(r'resource_metadata="([^"]+)"', challenge)
    assert found is not None, challenge
    document = (await visitor.http.get(found[1])).json()
    assert document["authorization_servers"] == [f"{visitor.base}{PREFIX}"]
    return str(document["resource"])


def settings_for(database_url: str, mails: Path, base: str) -> Settings:
    return Settings.isolated(
        database_url=database_url,
        registration="confirm",
        mail_url=f"folder:{mails}",
        public_url=base,
    )


@pytest.fixture
def mails(tmp_path: Path) -> Path:
    folder = tmp_path / "mails"
    folder.mkdir(mode=0o700)
    return folder


async def test_life_of_an_account_in_this_process(database_url: str, mails: Path) -> None:
    base = "http://127.0.0.1:8000"
    auth = AuthAPI(settings_for(database_url, mails, base))
    app = FastAPI(lifespan=auth.lifespan)
    auth.install(app, prefix=PREFIX)
    async with client(app, base_url=base, delivers_mail=True) as http:
        await live(Visitor(http, base, mails))


@pytest.mark.parametrize("strips", [False, True])
async def test_life_of_an_account_behind_a_proxy_that_adds_a_path(
    sqlite_url: str, mails: Path, strips: bool
) -> None:
    base = "http://127.0.0.1:8000/shop"
    auth = AuthAPI(settings_for(sqlite_url, mails, base))
    app = FastAPI(lifespan=auth.lifespan)
    auth.install(app, prefix=PREFIX)
    async with client(app, delivers_mail=True):
        transport = _Proxy(app, strips=strips)
        async with httpx.AsyncClient(transport=transport, base_url=base) as http:
            await live(Visitor(http, base, mails))


class _Proxy(httpx.AsyncBaseTransport):
    """A proxy that passes requests below `/shop`, with or without it, and the well-known paths."""

    def __init__(self, app: FastAPI, *, strips: bool) -> None:
        self._inner = httpx.ASGITransport(app, root_path="/shop")
        self._strips = strips

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        path, url = request.url.path, request.url
        if not path.startswith("/.well-known/"):
            assert path.startswith("/shop/")
            if self._strips:
                url = url.copy_with(raw_path=url.raw_path.removeprefix(b"/shop"))
        passed = httpx.Request(request.method, url, headers=request.headers, stream=request.stream)
        return await self._inner.handle_async_request(passed)


@pytest.fixture
def served(tmp_path: Path, mails: Path, sqlite_url: str) -> Iterator[str]:
    """The URL of an application under uvicorn."""
    (tmp_path / "prefixed.py").write_text(PROGRAM, encoding="utf-8")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    environment = {
        "PATH": os.environ["PATH"],
        "AUTHAPI_DATA_DIR": str(tmp_path / "data"),
        "AUTHAPI_DATABASE_URL": sqlite_url,
        "AUTHAPI_REGISTRATION": "confirm",
        "AUTHAPI_MAIL_URL": f"folder:{mails}",
        "AUTHAPI_PORT": str(port),
    }
    command = [sys.executable, "-m", "uvicorn", "prefixed:app", "--app-dir", str(tmp_path)]
    with ServeProcess([*command, "--port", str(port)], environment, tmp_path) as process:
        process.wait_ready(f"{url}{PREFIX}/health/ready", timeout=60)
        yield url


@asynccontextmanager
async def resource_server(issuer: str) -> AsyncIterator[httpx.AsyncClient]:
    """An application that accepts the JWTs of `issuer`, which it finds by its metadata."""
    auth = ResourceServer(
        RemoteJWT(issuer=issuer, audience="authapi"), settings=EdgeSettings.model_construct()
    )
    app = FastAPI(lifespan=auth.lifespan)
    auth.install(app)

    @app.get("/who")
    async def who(identity: Identity = Depends(current_identity())) -> str:  # noqa: B008  # FastAPI's
        return str(identity.user.id)

    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:9000") as http,
    ):
        yield http


async def test_life_of_an_account_over_a_socket(served: str, mails: Path) -> None:
    async with httpx.AsyncClient(trust_env=False, timeout=30) as http:
        visitor = Visitor(http, served, mails)
        bearer = {"authorization": f"Bearer {await live(visitor)}"}
        me = (await visitor.call("GET", "/me", headers=bearer)).json()
    async with resource_server(f"{served}{PREFIX}") as other:
        answer = await other.get("/who", headers=bearer)
        assert (answer.status_code, answer.json()) == (200, me["id"])
    async with resource_server(served) as other:  # it has no such issuer
        assert (await other.get("/who", headers=bearer)).status_code in (401, 503)
