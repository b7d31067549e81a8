"""The secret of a mailed link reaches the pages, but no span, log line or other middleware."""

import logging
from collections.abc import AsyncIterator

import pytest
from fastapi import FastAPI
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from starlette.types import ASGIApp, Receive, Scope, Send

from authapi import AuthAPI
from authapi.crypto.ids import new_id
from authapi.domain.email_token import Purpose
from authapi.services.accounts.email_tokens import MailedLink, MailedLinks
from authapi.testing import Client, client
from tests.conftest import SettingsFactory
from tests.web.asgi import scope_of

SECRET = "aSecret-from_a_mail-0123456789"
PAGES = ("confirm", "reset", "undo", "disown", "invitation")


class Queries:
    """A middleware of the application that records the queries."""

    seen: list[bytes] = []  # noqa: RUF012  # emptied by the fixture

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self.seen.append(scope["query_string"])
        await self.app(scope, receive, send)


@pytest.fixture
def spans() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
async def api(make_settings: SettingsFactory, spans: InMemorySpanExporter) -> AsyncIterator[Client]:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    auth = AuthAPI(make_settings(mail_url="console:"))
    app = FastAPI(lifespan=auth.lifespan, telemetry={"tracer_provider": provider})
    auth.install(app)
    app.add_middleware(Queries)
    Queries.seen.clear()

    @app.get("/own")
    async def own(token: str) -> str:
        return token

    async with client(app) as found:
        yield found


def span_text(spans: InMemorySpanExporter) -> str:
    return "".join(span.to_json() for span in spans.get_finished_spans())


@pytest.fixture
def every_link_works(monkeypatch: pytest.MonkeyPatch) -> None:
    async def find(_: MailedLinks, token: str, *purposes: Purpose) -> MailedLink:
        return MailedLink(purposes[0], new_id(), "alice@example.com", None)

    monkeypatch.setattr(MailedLinks, "find", find)


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize(
    "query",
    [
        f"token={SECRET}",
        f"x=1&token={SECRET}&y=%20",
        f"%74oken={SECRET}",
        f"token={SECRET}&token={SECRET}2",
        f"token=other&token={SECRET}",
        "token=" + SECRET.replace("a", "%61"),
    ],
)
async def test_only_the_page_reads_the_secret(
    api: Client,
    spans: InMemorySpanExporter,
    caplog: pytest.LogCaptureFixture,
    every_link_works: None,
    page: str,
    query: str,
) -> None:
    with caplog.at_level(logging.DEBUG, "authapi"):
        for method in ("GET", "HEAD", "POST", "PUT"):
            answer = await api.request(method, f"/account/{page}?{query}")
            if method == "GET":
                assert answer.status_code == 200
                assert f'value="{SECRET}' in answer.text
            elif method == "PUT":
                assert answer.status_code == 405
    assert len(spans.get_finished_spans()) >= 4
    assert SECRET not in span_text(spans) + caplog.text
    assert "other" not in "".join(map(str, Queries.seen))
    assert all(SECRET.encode() not in seen for seen in Queries.seen)
    assert '"url.query": "' in span_text(spans)
    assert "REDACTED" in span_text(spans)


async def test_access_log_of_the_server_is_redacted(api: Client) -> None:
    """uvicorn writes the access log from the scope when the response starts."""
    scope = scope_of("GET", b"/account/reset", query=f"a=b&token={SECRET}".encode())
    lines = []

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: object) -> None:
        lines.append(scope["query_string"])

    app = api._transport.app  # type: ignore[attr-defined]  # httpx keeps it there
    await app(scope, receive, send)
    assert set(lines) == {b"a=b&token=REDACTED"}


async def test_queries_of_other_routes_are_unchanged(
    api: Client, spans: InMemorySpanExporter
) -> None:
    assert (await api.get("/own?token=mine&x=%2F")).json() == "mine"
    assert Queries.seen[-1] == b"token=mine&x=%2F"
    assert (await api.get("/account/forgot?x=%2F")).status_code == 200
    assert Queries.seen[-1] == b"x=%2F"
    assert "REDACTED" not in span_text(spans)


async def test_secret_is_redacted_below_a_root_path(
    make_settings: SettingsFactory, every_link_works: None
) -> None:
    auth = AuthAPI(make_settings(mail_url="console:"))
    inner = FastAPI(lifespan=auth.lifespan)
    auth.install(inner)
    inner.add_middleware(Queries)
    outer = FastAPI(lifespan=auth.lifespan)
    outer.mount("/auth", inner)
    Queries.seen.clear()
    async with client(inner) as api:
        api._transport.app = outer  # type: ignore[attr-defined]  # httpx keeps it there
        answer = await api.get(f"/auth/account/reset?token={SECRET}")
    assert f'value="{SECRET}"' in answer.text
    assert Queries.seen == [b"token=REDACTED"]


async def test_no_span_contains_a_credential(api: Client, spans: InMemorySpanExporter) -> None:
    """Checks attributes, events and status of every span of a complete user journey."""
    password, other = "correct horse battery staple", "staple battery horse correct 7"
    email = "canary@example.com"
    await api.post("/register", json={"email": email, "password": password})
    kept = [password, other]
    body: dict[str, str] = {}
    for strategy in ("session", "token", "jwt"):
        answer = await api.post(
            "/login", json={"email": email, "password": password, "strategy": strategy}
        )
        body = answer.json()
        kept += [body[name] for name in ("access_token", "refresh_token") if name in body]
        if strategy == "session":
            kept.append(answer.headers["set-cookie"].partition(";")[0].partition("=")[2])
    bearer = {"Authorization": f"Bearer {body['access_token']}"}
    await api.post("/token", data={"grant_type": "refresh_token", "refresh_token": kept[-1]})
    made = await api.post("/me/tokens", json={"name": "script"}, headers=bearer)
    kept.append(made.json()["secret"] if "secret" in made.json() else made.json()["access_token"])
    await api.post("/login", json={"email": email, "password": [password]})
    await api.post("/login", content=f'{{"password": "{password}"', headers=bearer)
    change = {"current_password": password, "new_password": other}
    await api.post("/me/password", json=change, headers=bearer)
    await api.get("/me", headers={"Authorization": f"Bearer {kept[2]}x"})
    await api.post("/logout", headers=bearer)
    found = span_text(spans)
    assert len(spans.get_finished_spans()) > 10
    assert [secret for secret in kept if secret in found] == []
