"""The format and the content of the log, of a real `authapi serve` and in this process."""

import io
import json
import logging
import logging.config
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from authapi import Settings, create_app
from authapi.cli.serving import logs
from authapi.testing import PASSWORD, Client, client
from tests.servers.forked import Forking
from tests.servers.process import ServeProcess, free_port

SECRET = "3f9a1c7e5b2d8f604a6c8e0b1d3f5a7c"
INJECTION = '"}\r\n{"event": "login", "outcome": "success"}\x1b[31m\x1b]0;owned\x07\u2028'


@contextmanager
def serving(
    tmp_path: Path, forking: Forking, **settings: str
) -> Iterator[tuple[ServeProcess, httpx.Client]]:
    """Runs a real service; yields the process and a client."""
    port = free_port()
    environment = {
        "PATH": os.environ["PATH"],
        "AUTHAPI_PORT": str(port),
        "AUTHAPI_DATA_DIR": str(tmp_path / "data"),
        **settings,
    }
    url = f"http://127.0.0.1:{port}"
    with (
        forking.start(["serve"], environment, tmp_path) as server,
        httpx.Client(base_url=url, trust_env=False, timeout=30) as http,
    ):
        server.wait_ready(f"{url}/health/live", timeout=60)
        yield server, http


def production(tmp_path: Path) -> dict[str, str]:
    return {
        "AUTHAPI_ENV": "production",
        "AUTHAPI_SECRET": SECRET,
        "AUTHAPI_PUBLIC_URL": "https://auth.example.com",
        "AUTHAPI_DATABASE_URL": f"sqlite:///{tmp_path}/production.db",
        "AUTHAPI_ALLOW_SQLITE": "true",
        "AUTHAPI_TRUSTED_PROXIES": "127.0.0.1",
    }


def lines(server: ServeProcess) -> list[dict[str, Any]]:
    """Parses standard output, in which each line is a JSON object."""
    text = server.stdout.read_text(encoding="utf-8")
    assert text.endswith("\n")
    found = [json.loads(line) for line in text.removesuffix("\n").split("\n")]
    assert all(isinstance(line, dict) for line in found)
    return found


def test_production_logs_json(tmp_path: Path, forking: Forking) -> None:
    settings = production(tmp_path) | {"TZ": "Asia/Tokyo", "AUTHAPI_ACCESS_LOG": "true"}
    with serving(tmp_path, forking, **settings) as (server, http):
        body = {"email": "alice@example.com", "password": PASSWORD}
        assert http.post("/register", json=body).status_code == 201
        login = http.post("/login", json=body | {"strategy": "token"})
        http.headers["authorization"] = f"Bearer {login.json()['access_token']}"
        assert http.get("/me").status_code == 200
        refused = http.post("/login", json=body | {"password": PASSWORD + "!"})
        assert refused.status_code == 401
        missing = http.get("/nowhere/" + "x" * 50)
        assert missing.status_code == 404
        # Invalid HTTP makes the server log a warning, in the same format.
        raw = httpx.URL(http.base_url)
        import socket

        with socket.create_connection((raw.host, raw.port or 0), 5) as connection:
            connection.sendall(b"\x00\x01 nonsense \r\n\r\n")
            connection.recv(1000)
        assert server.terminate() == 0
    assert server.stderr.read_text() == ""
    found = lines(server)
    for line in found:
        assert {"event", "level", "logger", "timestamp"} <= set(line)
        at = datetime.fromisoformat(line["timestamp"])
        # In UTC, although TZ is Asia/Tokyo.
        assert line["timestamp"].endswith("Z")
        assert abs(datetime.now(UTC) - at) < timedelta(minutes=2)
    by_event = {line["event"]: line for line in found if line["logger"] == "authapi.events"}
    assert set(by_event) == {"account_registered", "login", "login_refused"}
    assert by_event["login"]["request_id"] == login.headers["x-request-id"]
    assert by_event["login"]["strategy"] == "token"
    assert by_event["login_refused"]["request_id"] == refused.headers["x-request-id"]
    assert by_event["login_refused"]["outcome"] == "refused"
    access = [line for line in found if line["logger"] == "authapi.access"]
    assert [
        (line["method"], line.get("route"), line["status"])
        for line in access
        if line.get("route") != "/health/live"
    ] == [
        ("POST", "/register", 201),
        ("POST", "/login", 200),
        ("GET", "/me", 200),
        ("POST", "/login", 401),
        ("GET", None, 404),
    ]
    assert access[-1]["request_id"] == missing.headers["x-request-id"]
    (me,) = [line for line in access if line.get("route") == "/me"]
    assert (me["user_id"], me["strategy"]) == (login.json()["user"]["id"], "token")
    assert (found[0]["event"], found[0]["logger"]) == ("listening", "authapi")
    refusals = [line for line in found if line["event"] == "refused"]
    assert "malformed_request" in {line["code"] for line in refusals}


def test_times_in_database_and_responses_are_utc(tmp_path: Path, forking: Forking) -> None:
    settings = production(tmp_path) | {"TZ": "Asia/Tokyo"}
    with serving(tmp_path, forking, **settings) as (_, http):
        body = {"email": "alice@example.com", "password": PASSWORD, "strategy": "jwt"}
        http.post("/register", json={k: v for k, v in body.items() if k != "strategy"})
        answer = http.post("/login", json=body).json()
        headers = {"authorization": f"Bearer {answer['access_token']}"}
        newest = http.get("/me/events", headers=headers).json()["items"][0]
        assert newest["type"] == "login"
        assert newest["at"].endswith("Z")
        assert abs(datetime.now(UTC) - datetime.fromisoformat(newest["at"])) < timedelta(minutes=1)
        # UUIDv7: the first 48 bits are milliseconds since 1970.
        milliseconds = int(newest["id"].replace("-", "")[:12], 16)
        assert abs(datetime.now(UTC).timestamp() - milliseconds / 1000) < 60


def test_rejected_websocket_handshake_logs_no_error(tmp_path: Path, forking: Forking) -> None:
    handshake = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
        "Sec-WebSocket-Version": "13",
    }
    with serving(tmp_path, forking, **production(tmp_path)) as (server, http):
        answer = http.get("/nowhere", headers=handshake)
        assert server.terminate() == 0
    assert answer.status_code == 404
    lines = [json.loads(line) for line in server.stdout.read_text().splitlines()]
    assert [line for line in lines if line["level"] == "error"] == []
    assert answer.headers["x-request-id"]


def test_development_logs_text(tmp_path: Path, forking: Forking) -> None:
    with serving(tmp_path, forking) as (server, http):
        body = {"email": "alice@example.com", "password": PASSWORD}
        answer = http.post("/register", json=body)
        assert answer.status_code == 201
        assert server.terminate() == 0
    assert server.stderr.read_text() == ""
    text = server.stdout.read_text()
    assert text.startswith("authapi listens on 127.0.0.1 port ")
    (line,) = [line for line in text.splitlines() if "account_registered" in line]
    assert f"request_id={answer.headers['x-request-id']}" in line
    assert "user_id=" in line
    with pytest.raises(json.JSONDecodeError):
        json.loads(line)


@pytest.fixture(params=["production", "development"])
def log(request: pytest.FixtureRequest, make_settings: Any) -> Iterator[io.StringIO]:
    """Captures the log in the format of production or development."""
    changes: dict[str, object] = {}
    if request.param == "production":
        changes = {"secret": SECRET, "public_url": "https://auth.example.com", "allow_sqlite": True}
    settings: Settings = make_settings(env=request.param, **changes)
    configuration = logs.configuration(settings)
    stream = io.StringIO()
    formatter = configuration["formatters"]["structured"]
    del configuration
    handler = logging.StreamHandler(stream)
    made = dict(formatter)
    handler.setFormatter(made.pop("()")(**made))
    logger = logging.getLogger("authapi")
    level, propagate = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield stream
    logger.removeHandler(handler)
    logger.setLevel(level)
    logger.propagate = propagate


async def provoke(api: Client) -> list[httpx.Response]:
    """Sends requests with line breaks and terminal control codes in every text of a client."""
    alice = await api.create_user("alice@example.com")
    agent = INJECTION.replace("\u2028", "").encode()
    headers: list[tuple[bytes, bytes]] = [(b"user-agent", agent), (b"x-request-id", agent)]
    return [
        await api.post("/login", headers=headers, json={"email": email, "password": password})
        for email, password in (
            (alice.email, INJECTION),
            (alice.email, PASSWORD),
            (f"alice{INJECTION}@example.com", PASSWORD),
            (f'"alice{INJECTION}"@example.com', PASSWORD),
        )
    ] + [await api.get("/me", headers={"Authorization": "Bearer \x1b[31m"})]


async def test_client_input_cannot_inject_log_lines(log: io.StringIO, make_settings: Any) -> None:
    async with client(create_app(make_settings(access_log=True))) as api:
        answers = await provoke(api)
    assert [answer.status_code for answer in answers] == [401, 200, 422, 422, 401]
    text = log.getvalue()
    assert text.endswith("\n")
    written = text.removesuffix("\n").split("\n")
    # One line each for account_registered, two events, two refusals and five requests.
    kinds = ["account_registered", "login_refused", "request", "login", "request"]
    kinds += ["request", "request", "refused", "request"]
    assert len(written) == len(kinds)
    for line, kind in zip(written, kinds, strict=True):
        assert kind in line
        assert not re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", line), line
    assert "owned" in text  # the user agent, without control characters


def crashing(app: FastAPI) -> FastAPI:
    @app.get("/crash")
    async def crash() -> None:
        raise ZeroDivisionError("unexpected\r\nwith a second line")

    return app


async def test_unhandled_error_is_logged_once_with_the_request_id(
    log: io.StringIO, make_settings: Any, request: pytest.FixtureRequest
) -> None:
    async with client(crashing(create_app(make_settings()))) as api:
        answer = await api.get("/crash")
    assert answer.status_code == 500
    assert answer.json()["code"] == "internal_error"
    assert "unexpected" not in answer.text
    text = log.getvalue()
    assert text.count("unhandled error") == 1
    assert text.count(answer.headers["x-request-id"]) == 1
    assert "ZeroDivisionError: unexpected" in text
    if "production" in request.node.name:
        line = json.loads(text)
        assert line["request_id"] == answer.json()["request_id"]
        assert (line["event"], line["level"]) == ("unhandled error", "error")
        assert "Traceback" in line["exception"]


async def test_unavailable_sqlite_is_logged_once_with_its_cause(
    sqlite_url: str, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    settings = Settings(database_url=sqlite_url, last_seen_interval=3600)  # type: ignore[arg-type]
    async with client(create_app(settings)) as api:
        await api.services.database.engine.dispose()
        database = tmp_path / "authapi.db"
        database.rename(tmp_path / "away.db")
        database.mkdir()
        caplog.clear()
        for path in ("/health/ready", "/me"):
            api.headers["authorization"] = "Bearer aat_" + "A" * 49
            caplog.clear()
            answer = await api.get(path)
            if path == "/me":
                continue  # a malformed token causes no query
            assert answer.status_code == 503
            told = [r for r in caplog.records if r.name == "authapi.storage.driver_errors"]
            assert [r.levelname for r in told] == ["ERROR"]
            (record,) = [r for r in caplog.records if r not in told]
            assert (record.levelname, record.message) == ("WARNING", "unavailable")
            assert record.__dict__["cause"] == "OperationalError"
            assert record.__dict__["code"] == "database_unavailable"
            assert record.__dict__["request_id"] == answer.headers["x-request-id"]


async def test_unavailable_postgres_is_logged_once_with_its_cause(
    postgres_url: str, postgres: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with client(create_app(Settings(database_url=postgres_url))) as api:  # type: ignore[arg-type]
        alice = await api.create_user()
        await api.login(alice)
        await api.services.last_used.flush()
        postgres.drop_database(postgres_url.rpartition("/")[2])
        caplog.clear()
        for method, path in (("GET", "/health/ready"), ("GET", "/me"), ("POST", "/logout")):
            caplog.clear()
            answer = await api.request(method, path)
            assert answer.status_code == 503
            # The connection for notifications logs its own loss.
            own = "authapi.services.identity_cache.invalidation"
            names = [r for r in caplog.records if r.name.startswith("authapi")]
            told = [r for r in names if r.name == "authapi.storage.driver_errors"]
            assert [r.levelname for r in told] == ["ERROR"]
            assert {r.__dict__["request_id"] for r in told} == {answer.headers["x-request-id"]}
            (record,) = [r for r in names if r.name != own and r not in told]
            assert (record.levelname, record.message) == ("WARNING", "unavailable")
            assert record.__dict__["cause"] == "OperationalError"
            assert record.__dict__["request_id"] == answer.headers["x-request-id"]
        # Without pending writes, stopping needs no database.
        api.services.last_used._pending.clear()


async def test_refusals_are_logged_with_client_and_code(
    api: Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "authapi")
    alice = await api.create_user()
    await api.login(alice)
    caplog.clear()
    answer = await api.patch("/me", json={"name": "x"}, headers={"sec-fetch-site": "cross-site"})
    assert answer.status_code == 403
    (record,) = [r for r in caplog.records if r.name == "authapi.refusals"]
    assert (record.levelname, record.message) == ("INFO", "refused")
    told = record.__dict__
    assert (told["code"], told["ip"]) == ("foreign_origin", "127.0.0.1")
    assert told["request_id"] == answer.headers["x-request-id"]
    caplog.clear()
    for bad in ({"name": ""}, {"name": 7}, {"nam": "x"}):
        assert (await api.patch("/me", json=bad)).status_code == 422
    # Invalid input is not logged: it would hide the other refusals.
    assert [r for r in caplog.records if r.name.startswith("authapi")] == []


async def test_access_log_is_off_by_default(api: Client, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "authapi")
    assert (await api.get("/health/live")).status_code == 200
    assert [r for r in caplog.records if r.name.startswith("authapi")] == []
