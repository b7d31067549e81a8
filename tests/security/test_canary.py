"""No password, token, cookie or key appears in a log line, an event or a response (ASVS 16.2.5).

Every secret of a client, an operator or the service itself is a canary here. The tests call every
route of the OpenAPI document with all of them, also while the route crashes.
"""

import base64
import io
import json
import logging
import os
import re
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from authapi import Settings, create_app
from authapi.cli.serving import logs
from authapi.services.accounts.authentication import Authentication
from authapi.services.accounts.deletion import Deletion
from authapi.services.accounts.passwords import PasswordChanges
from authapi.services.accounts.profile import Profiles
from authapi.services.accounts.registration import Registration
from authapi.services.sessions.service import Sessions
from authapi.services.tokens import PersonalTokens
from authapi.storage.tables.sessions import SessionTable
from authapi.storage.tables.users import UserTable
from authapi.testing import Client, client
from tests.servers.process import ServeProcess, free_port
from tests.tables import events as event_rows

CANARY = "Kanarienvogel-7"
# Unlike a member name: responses repeat unknown members of lower-case letters.
PASSWORD = f"{CANARY}-one, which is in use"
NEW = f"{CANARY}-two, which is to be"
WRONG = f"{CANARY}-three, which is wrong"
SECRET = f"{CANARY}-9f3b1c7e5d2a80640b"
DATA = f"{CANARY}-data-of-a-session"
STRATEGIES = ("session", "token", "jwt", "basic")
UNLIMITED = dict.fromkeys(
    (
        "limit_account_and_network",
        "limit_account",
        "limit_network",
        "limit_total",
        "limit_registrations",
    ),
    "100000/second",
)


class Everything(logging.Handler):
    """All lines of all loggers, in the format of either profile, with tracebacks."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(logging.DEBUG)
        self.stream = io.StringIO()
        formatter = dict(logs.configuration(settings)["formatters"]["structured"])
        self.setFormatter(formatter.pop("()")(**formatter))
        self._json = logging.StreamHandler(self.stream)
        production = settings.model_copy(update={"env": "production"})
        formatter = dict(logs.configuration(production)["formatters"]["structured"])
        self._json.setFormatter(formatter.pop("()")(**formatter))

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.startswith(("httpx", "httpcore", "asyncio")):
            return  # the HTTP client of this test
        self.stream.write(self.format(record) + "\n" + repr(record.__dict__) + "\n")
        self._json.emit(record)


@pytest.fixture(params=["sqlite", "postgres"])
def settings(request: pytest.FixtureRequest) -> Settings:
    return Settings(
        database_url=request.getfixturevalue(f"{request.param}_url"),
        secret=SECRET,  # type: ignore[arg-type]  # pydantic converts it to a secret
        strategies=STRATEGIES,
        access_log=True,
        fresh_max_age=3600,  # type: ignore[arg-type]  # seconds
        max_body_bytes=65536,
        **UNLIMITED,  # type: ignore[arg-type]  # rates are text
    )


@pytest.fixture
def log(settings: Settings) -> Iterator[io.StringIO]:
    handler, root, ours = Everything(settings), logging.getLogger(), logging.getLogger("authapi")
    levels = root.level, ours.level
    root.addHandler(handler)
    # A lower level than in the shipped configuration.
    root.setLevel(logging.INFO)
    ours.setLevel(logging.DEBUG)
    yield handler.stream
    root.removeHandler(handler)
    root.setLevel(levels[0])
    ours.setLevel(levels[1])


@pytest.fixture
async def api(settings: Settings, log: io.StringIO) -> AsyncIterator[Client]:
    async with client(create_app(settings)) as found:
        yield found


class Canaries:
    """All secrets of this run; `assert_absent` looks for each of them."""

    def __init__(self) -> None:
        self.secrets = {CANARY}

    def add(self, secret: str) -> None:
        assert len(secret) >= 20
        self.secrets.add(secret)
        if secret.count(".") == 2:
            self.secrets.add(secret.rpartition(".")[2])  # the signature alone is secret

    def assert_absent(self, text: str, where: str) -> None:
        found = sorted(secret[:20] for secret in self.secrets if secret in text)
        assert not found, f"{found} in {where}"


async def log_in(api: Client, canaries: Canaries, strategy: str, email: str) -> dict[str, str]:
    """Log in. Returns headers with the credential, which becomes a canary too."""
    if strategy == "basic":
        text = base64.b64encode(f"{email}:{PASSWORD}".encode()).decode()
        canaries.add(text)
        return {"authorization": f"Basic {text}"}
    body = {"email": email, "password": PASSWORD, "strategy": strategy}
    response = await api.post("/login", json=body)
    assert response.status_code == 200, response.text
    api.cookies.clear()
    if strategy == "session":
        cookie = response.headers["set-cookie"].partition(";")[0]
        canaries.add(cookie.partition("=")[2])
        return {"cookie": cookie}
    token = response.json()["access_token"]
    canaries.add(token)
    return {"authorization": f"Bearer {token}"}


def bad_credentials() -> Iterator[dict[str, str]]:
    """Invalid credentials that contain a canary."""
    yield {}
    for text in (CANARY, f"aat_{CANARY}", f"aat_{CANARY:A<49}", f"e30.{CANARY}.{CANARY}"):
        yield {"authorization": f"Bearer {text}"}
        yield {"authorization": text}
    basic = base64.b64encode(f"alice@example.com:{WRONG}".encode()).decode()
    yield {"authorization": f"Basic {basic}"}
    yield {"cookie": f"authapi={CANARY}; other={CANARY}"}
    yield {"cookie": f"authapi={CANARY:A<43}"}
    yield {"cookie": f"authapi={CANARY}; authapi={CANARY}"}
    yield {"authorization": "Bearer " + CANARY * 1000}


BODIES: dict[str, list[Any]] = {
    "/register": [{"email": "new@example.com", "password": NEW}],
    "/login": [
        {"email": "alice@example.com", "password": PASSWORD},
        {"email": "alice@example.com", "password": WRONG},
        {"email": "unknown@example.com", "password": WRONG},
    ],
    "/me/password": [
        {"current_password": WRONG, "new_password": NEW},
        {"current_password": PASSWORD, "new_password": NEW},
    ],
    "/me/session": [{"kept": DATA}],
    "/me/tokens": [{"name": "a script"}],
    "/me": [{"name": "Alice"}],
}
INVALID: list[Any] = [
    {"email": CANARY, "password": [NEW]},
    {"email": {"password": NEW}, "password": CANARY, CANARY: CANARY},
    {"password": NEW * 200, "current_password": NEW * 200, "new_password": NEW[:9]},
    [CANARY],
    CANARY,
]
FORMS = [
    {"grant_type": "password", "username": "alice@example.com", "password": PASSWORD},
    {"grant_type": "password", "username": "alice@example.com", "password": WRONG},
    {"grant_type": CANARY, "refresh_token": CANARY, "client_secret": CANARY},
]


async def operations(api: Client) -> list[tuple[str, str]]:
    """All operations. Those that end other credentials come last."""
    document = (await api.get("/openapi.json")).json()
    methods = {"get", "post", "patch", "delete", "put"}
    found = [
        (method.upper(), path)
        for path, item in document["paths"].items()
        for method in item
        if method in methods
    ]
    last = [("POST", "/logout"), ("POST", "/me/password"), ("DELETE", "/me")]
    return sorted(found, key=lambda one: last.index(one) if one in last else -1)


async def ask(
    api: Client,
    canaries: Canaries,
    headers: dict[str, str],
    *,
    paths: list[tuple[str, str]],
    thorough: bool = True,
) -> None:
    """Call each operation with each body. Only a new credential may be in a response."""
    for method, template in paths:
        path = re.sub(r"\{[^}]+\}", "01a00000-0000-7000-8000-000000000000", template)
        bodies: list[Any] = [None]
        if method in ("POST", "PATCH", "PUT"):
            bodies = [*BODIES.get(template, [{}]), *INVALID][: None if thorough else 1]
        for body in bodies:
            response = await api.request(method, path, json=body, headers=headers)
            check(canaries, response)
        if template == "/token":
            for form in FORMS:
                check(canaries, await api.post(path, data=form, headers=headers))
        raw = b'{"password": "' + PASSWORD.encode() + b'", "x": ' + CANARY.encode()
        json_headers = {**headers, "content-type": "application/json"}
        check(canaries, await api.request(method, path, content=raw, headers=json_headers))
        query = {"password": PASSWORD, "access_token": CANARY, "before": CANARY, "limit": CANARY}
        check(canaries, await api.request(method, path, params=query, headers=headers))


def check(canaries: Canaries, response: httpx.Response) -> None:
    api_cookie = response.headers.get("set-cookie", "").partition(";")[0].partition("=")[2]
    text = response.text
    if response.is_success:
        # Only the response to a successful authentication contains a new credential.
        body = response.json() if text else {}
        if isinstance(body, dict):
            if token := body.pop("access_token", None):
                canaries.add(token)
            if body.get("data"):
                body.pop("data")  # it belongs to the caller
            text = json.dumps(body)
    headers = {k: v for k, v in response.headers.items() if k != "set-cookie"}
    where = f"{response.request.method} {response.request.url.path} {response.status_code}"
    canaries.assert_absent(text + repr(headers), where)
    if api_cookie:
        canaries.add(api_cookie)


async def stored_events(api: Client) -> str:
    async with api.services.database.engine.connect() as connection:
        return repr((await connection.execute(sa.select(event_rows))).all())


@pytest.mark.slow
async def test_no_route_discloses_a_secret(api: Client, log: io.StringIO) -> None:
    canaries = Canaries()
    every = await operations(api)
    assert len(every) > 15
    assert {path for _, path in every} >= set(BODIES)
    for number, strategy in enumerate(STRATEGIES):
        email = "alice@example.com" if number == 0 else f"alice{number}@example.com"
        await api.create_user(email, password=PASSWORD)
        for operation in every:
            headers = await log_in(api, canaries, strategy, email)
            await ask(api, canaries, headers, paths=[operation])
            api.cookies.clear()
            if operation[1] == "/me/password" and strategy != "basic":
                user = await api.services.accounts.profiles.find_by_email(_address(email))
                await api.services.accounts.passwords.set(user.id, PASSWORD)
    for headers in bad_credentials():
        await ask(api, canaries, headers, paths=every, thorough=False)
        for path in (f"/{CANARY}", f"/me/sessions/{CANARY}", f"/me/{CANARY}?token={CANARY}"):
            response = await api.get(path, headers=headers)
            assert response.status_code in (401, 404, 405, 422, 431)
            check(canaries, response)
    text = log.getvalue()
    assert text.count("login_refused") > 10  # the log is not empty
    canaries.assert_absent(text, "the log")
    canaries.assert_absent(await stored_events(api), "the events")


def _address(email: str) -> Any:
    from authapi.domain.email_address import parse_email

    return parse_email(email)


async def crash(*_: object, **__: object) -> None:
    raise ZeroDivisionError("the message of the exception")


async def break_statement(self: Any, *_: object, **__: object) -> None:
    # The message of a database driver, with the bound values.
    values = {"password": PASSWORD, "secret": SECRET}
    await self._connection.execute(sa.text("SELECT :password, :secret, no_such_column"), values)


CRASHES: list[tuple[str, dict[type, list[str]], Any]] = [
    (
        "accounts",
        {
            Authentication: ["authenticate"],
            Registration: ["create"],
            PasswordChanges: ["change"],
            Profiles: ["edit"],
            Deletion: ["delete_own"],
        },
        crash,
    ),
    (
        "sessions",
        {
            Sessions: [
                "create",
                "identify_by_secret",
                "identify_by_id",
                "logout",
                "merge_data",
            ]
        },
        crash,
    ),
    ("tokens", {PersonalTokens: ["create", "list_of", "end_own"]}, crash),
    ("users", {UserTable: ["find_credentials_by_email", "add", "lock"]}, break_statement),
    (
        "sessions-table",
        {SessionTable: ["find_by_secret", "find_with_user", "add", "lock"]},
        break_statement,
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("methods", "how"), [row[1:] for row in CRASHES], ids=[name for name, *_ in CRASHES]
)
async def test_no_crash_discloses_a_secret(
    api: Client,
    log: io.StringIO,
    monkeypatch: pytest.MonkeyPatch,
    methods: dict[type, list[str]],
    how: Any,
) -> None:
    canaries = Canaries()
    await api.create_user("alice@example.com", password=PASSWORD)
    credentials = [
        await log_in(api, canaries, strategy, "alice@example.com") for strategy in STRATEGIES
    ]
    every = await operations(api)
    for owner, names in methods.items():
        for name in names:
            monkeypatch.setattr(owner, name, how)
    for headers in credentials:
        await ask(api, canaries, headers, paths=every)
    text = log.getvalue()
    if how is crash:
        assert "ZeroDivisionError: the message of the exception" in text
    else:
        assert "no_such_column" in text or '"unavailable"' in text
    canaries.assert_absent(text, "the log")
    canaries.assert_absent(await stored_events(api), "the events")


@pytest.mark.parametrize(
    "changes",
    [
        {"database_url": f"postgresql://me:{CANARY}@db:port/authapi"},
        {"database_url": f"{CANARY}://{CANARY}"},
        {"database_url": CANARY},
        {"redis_url": f"http://me:{CANARY}@127.0.0.1/"},
        {"redis_url": f"redis://me:{CANARY}@127.0.0.1:port/"},
        {"secret": CANARY},
        {"secret": CANARY, "limit_account": CANARY, "scopes": CANARY, "public_url": CANARY},
        {"env": "production", "secret": f"secret-{CANARY}" * 3},
    ],
    ids=str,
)
def test_invalid_settings_disclose_no_secret(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, str]
) -> None:
    import traceback

    from authapi import AuthAPI

    for name, value in changes.items():
        monkeypatch.setenv(f"AUTHAPI_{name.upper()}", value)
    with pytest.raises(Exception, match=r".") as caught:
        AuthAPI()
    assert type(caught.value).__name__ == "ConfigurationError"
    assert CANARY not in "".join(traceback.format_exception(caught.value))


def test_repr_of_settings_and_values_hides_secrets(settings: Settings) -> None:
    password = settings.resolved_database_url.partition("@")[0].rpartition(":")[2]
    assert SECRET not in repr(settings) + str(settings)
    if settings.resolved_database_url.startswith("postgres"):
        assert password not in repr(settings) + str(settings)


@pytest.mark.slow
@pytest.mark.parametrize("profile", ["development", "production"])
def test_running_service_discloses_no_secret(
    tmp_path: Path, postgres: Any, fresh_postgres_url: str, profile: str
) -> None:
    """Standard output and error of `authapi serve`, from start until the database fails."""
    canaries = Canaries()
    canaries.add(fresh_postgres_url.partition("@")[0].rpartition(":")[2])
    port = free_port()
    environment = {
        "PATH": os.environ["PATH"],
        "AUTHAPI_ENV": profile,
        "AUTHAPI_SECRET": SECRET,
        # A password in the query of the URL is a secret as well.
        "AUTHAPI_DATABASE_URL": f"{fresh_postgres_url}?application_name={CANARY}",
        "AUTHAPI_DATA_DIR": str(tmp_path / "data"),
        "AUTHAPI_PORT": str(port),
        "AUTHAPI_ACCESS_LOG": "true",
        "AUTHAPI_STRATEGIES": "session,token,jwt,basic",
    }
    if profile == "production":
        environment["AUTHAPI_PUBLIC_URL"] = "https://auth.example.com"
    url = f"http://127.0.0.1:{port}"
    with (
        ServeProcess([sys.executable, "-m", "authapi", "serve"], environment, tmp_path) as server,
        httpx.Client(base_url=url, trust_env=False, timeout=30) as http,
    ):
        server.wait_ready(f"{url}/health/ready", timeout=60)
        body = {"email": "alice@example.com", "password": PASSWORD}
        assert http.post("/register", json=body).status_code == 201
        token = http.post("/login", json=body | {"strategy": "token"}).json()["access_token"]
        canaries.add(token)
        headers = {"authorization": f"Bearer {token}"}
        cookie = http.post("/login", json=body).headers["set-cookie"].partition(";")[0]
        canaries.add(cookie.partition("=")[2])
        http.cookies.clear()

        def round_of_requests() -> set[int]:
            return {
                http.get("/me", headers=headers).status_code,
                http.get("/me/session", headers={"cookie": cookie}).status_code,
                http.get("/me", auth=("alice@example.com", PASSWORD)).status_code,
                http.post("/login", json=body | {"password": WRONG}).status_code,
                http.post("/login", json=body | {CANARY: CANARY}).status_code,
                http.post("/login", content=PASSWORD.encode(), headers=headers).status_code,
                http.get(f"/{CANARY}?password={CANARY}").status_code,
                http.get("/me", headers={"authorization": f"Bearer aat_{CANARY}"}).status_code,
            }

        assert round_of_requests() == {200, 401, 404, 415, 422}
        postgres.drop_database(fresh_postgres_url.rpartition("/")[2])
        assert round_of_requests() == {401, 404, 415, 422, 503}
        server.terminate()
        text = server.output()
    assert "unavailable" in text
    canaries.assert_absent(text, "the output")
