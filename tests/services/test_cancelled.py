"""Requests cancelled at each await leave no lock, no connection and no partial change."""

import asyncio
import base64
import gc
import json
import random
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from uuid import UUID

import psycopg
import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from pydantic import SecretStr

from authapi import Settings, create_app
from authapi.crypto.secrets import hash_secret
from authapi.domain.email_address import parse_email
from authapi.domain.events import Event
from authapi.testing import PASSWORD, Client, client
from tests.storage.cancelling import Steps
from tests.web.asgi import RawHeaders, ask

NEW_PASSWORD = PASSWORD[::-1]
JSON = (b"content-type", b"application/json")
FORM = (b"content-type", b"application/x-www-form-urlencoded")


@dataclass
class Request:
    """A request, and a bearer token whose validity is checked afterwards."""

    method: str
    path: str
    body: bytes = b""
    headers: RawHeaders = ()
    bearer: str | None = None


Prepare = Callable[[Client], Awaitable[Request]]


async def create_account(
    api: Client, strategy: str = "token", *, is_superuser: bool = False
) -> tuple[str, str, str]:
    """Creates an account and logs in. Returns its address, access token and refresh token."""
    account = await api.create_user(is_superuser=is_superuser)
    login = {"email": account.email, "password": PASSWORD, "strategy": strategy}
    answer = (await api.post("/login", json=login)).json()
    return account.email, answer["access_token"], answer.get("refresh_token", "")


def make_request(method: str, path: str, token: str | None, body: object = None) -> Request:
    headers = [JSON] if body is not None else []
    if token is not None:
        headers.append((b"authorization", b"Bearer " + token.encode()))
    content = b"" if body is None else json.dumps(body).encode()
    return Request(method, path, content, headers, token)


async def register(api: Client) -> Request:
    user = await api.create_user()
    return make_request(
        "POST", "/register", None, {"email": f"x{user.email}", "password": PASSWORD}
    )


def login_by(strategy: str) -> Prepare:
    async def login(api: Client) -> Request:
        user = await api.create_user()
        credentials = {"email": user.email, "password": PASSWORD, "strategy": strategy}
        return make_request("POST", "/login", None, credentials)

    return login


async def refused_login(api: Client) -> Request:
    user = await api.create_user()
    return make_request("POST", "/login", None, {"email": user.email, "password": NEW_PASSWORD})


async def logout(api: Client) -> Request:
    return make_request("POST", "/logout", (await create_account(api))[1])


async def rename(api: Client) -> Request:
    return make_request("PATCH", "/me", (await create_account(api))[1], {"name": "Robert"})


async def change_password(api: Client) -> Request:
    _, token, _ = await create_account(api, "jwt")
    change = {"current_password": PASSWORD, "new_password": NEW_PASSWORD}
    return make_request("POST", "/me/password", token, change)


async def make_token(api: Client) -> Request:
    _, token, _ = await create_account(api, "jwt")
    return make_request("POST", "/me/tokens", token, {"name": "script"})


async def end_others(api: Client) -> Request:
    email, token, _ = await create_account(api, "jwt")
    await api.post("/login", json={"email": email, "password": PASSWORD, "strategy": "token"})
    return make_request("DELETE", "/me/sessions", token)


async def delete_account(api: Client) -> Request:
    return make_request("DELETE", "/me", (await create_account(api))[1])


async def refresh(api: Client) -> Request:
    _, _, token = await create_account(api, "jwt")
    body = f"grant_type=refresh_token&refresh_token={token}".encode()
    return Request("POST", "/token", body, [FORM])


async def revoke(api: Client) -> Request:
    _, token, _ = await create_account(api)
    return Request("POST", "/token/revoke", f"token={token}".encode(), [FORM], token)


async def forgot(api: Client) -> Request:
    user = await api.create_user()
    return make_request("POST", "/password/forgot", None, {"email": user.email})


async def request_change(api: Client) -> Request:
    _, token, _ = await create_account(api, "jwt")
    change = {"email": "new@example.com", "password": PASSWORD}
    return make_request("POST", "/me/email", token, change)


async def deactivate(api: Client) -> Request:
    email, token, _ = await create_account(api)
    _, admin, _ = await create_account(api, "jwt", is_superuser=True)
    user = await api.services.accounts.profiles.find_by_email(parse_email(email))
    found = make_request("PATCH", f"/admin/users/{user.id}", admin, {"is_active": False})
    found.bearer = token
    return found


async def invite(api: Client) -> Request:
    _, admin, _ = await create_account(api, "jwt", is_superuser=True)
    user = await api.create_user()
    return make_request("POST", "/admin/users", admin, {"email": f"y{user.email}"})


async def me(api: Client) -> Request:
    email, token, _ = await create_account(api)
    await api.patch(
        "/me", json={"name": email}, headers=_headers(token)
    )  # invalidates the cached identity
    return make_request("GET", "/me", token)


async def events(api: Client) -> Request:
    return make_request("GET", "/me/events", (await create_account(api))[1])


async def ready(api: Client) -> Request:
    return Request("GET", "/health/ready")


def _headers(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


OPERATIONS: dict[str, Prepare] = {
    "register": register,
    "login session": login_by("session"),
    "login token": login_by("token"),
    "login jwt": login_by("jwt"),
    "refused login": refused_login,
    "logout": logout,
    "rename": rename,
    "change of password": change_password,
    "new token": make_token,
    "end others": end_others,
    "delete": delete_account,
    "refresh": refresh,
    "revoke": revoke,
    "forgot": forgot,
    "change of address": request_change,
    "deactivate": deactivate,
    "invite": invite,
    "me": me,
    "events": events,
    "ready": ready,
}


TABLES = ("users", "sessions", "refresh_families", "email_tokens", "outbox")
COUNTS = " UNION ALL ".join(
    [
        *(f"SELECT '{table}', count(*) FROM authapi_{table}" for table in TABLES),
        "SELECT 'renamed', count(*) FROM authapi_users WHERE name = 'Robert'",
        "SELECT 'event ' || type, count(*) FROM authapi_events GROUP BY type",
    ]
)


@dataclass
class Harness:
    """The application, its client and its database."""

    app: FastAPI
    api: Client
    observer: sqlite3.Connection | psycopg.Connection
    """A separate connection to the same database."""
    reported: Counter[str] = field(default_factory=Counter)
    """Events passed to `on_commit`, by type."""

    def __post_init__(self) -> None:
        database = self.api.services.database
        listener = database._on_commit

        def on_commit(event: Event) -> None:
            self.reported[f"event {event.type.value}"] += 1
            listener(event)

        database._on_commit = on_commit

    async def outcome(self, name: str, steps: Steps) -> dict[str, int]:
        """Runs an operation with `steps`. Returns how many rows of each kind it has added.

        Checks that it leaves nothing else behind.
        """
        request = await OPERATIONS[name](self.api)
        before, reported = self.count_rows(), self.reported.copy()
        content = [request.body]
        path = request.path.encode()
        await steps.run(ask(self.app, request.method, path, headers=request.headers, body=content))
        await self.wait_until_released()
        after = self.count_rows()
        for kind in after:
            if kind.startswith("event "):
                assert self.reported[kind] - reported[kind] == after[kind] - before[kind]
        if request.bearer is not None:
            # The identity cache must agree with the committed state of the database.
            answer = await self.api.get("/me/identity", headers=_headers(request.bearer))
            assert answer.status_code == (200 if self.is_valid(request.bearer) else 401)
        return {kind: n - before[kind] for kind, n in after.items() if n != before[kind]}

    async def wait_until_released(self) -> None:
        """Waits until all locks and connections are released, by threads and the server too."""
        services = self.api.services
        deadline = asyncio.get_running_loop().time() + 5
        while (
            not self.is_free() or services.database.connections_in_use or services.passwords.running
        ):
            assert asyncio.get_running_loop().time() < deadline
            await asyncio.sleep(0.001)

    def is_free(self) -> bool:
        """Whether no transaction is open: another process could write."""
        if isinstance(self.observer, sqlite3.Connection):
            try:
                self.observer.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                return False
            self.observer.execute("ROLLBACK")
            return True
        [[busy]] = self.observer.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND pid <> pg_backend_pid() AND xact_start IS NOT NULL"
        )
        return bool(busy == 0)

    def count_rows(self) -> Counter[str]:
        """The number of rows of each kind."""
        found = Counter[str]()
        for kind, number in self.observer.execute(COUNTS):
            found[str(kind)] = int(str(number))
        return found

    def is_valid(self, token: str) -> bool:
        """Whether the session of `token` exists and its user is active."""
        if token.startswith("aat_"):
            digest = hash_secret(token).digest.hex()
            literal = (
                f"x'{digest}'"
                if isinstance(self.observer, sqlite3.Connection)
                else f"'\\x{digest}'"
            )
            one = f"s.secret_hash = {literal}"
        else:
            claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "==="))
            one = f"s.id = '{UUID(claims['sid']).hex}'"
        join = "SELECT count(*) FROM authapi_sessions s JOIN authapi_users u ON u.id = s.user_id"
        [[number]] = self.observer.execute(f"{join} WHERE u.is_active AND {one}")
        return int(str(number)) == 1


def connection_to(url: str) -> sqlite3.Connection | psycopg.Connection:
    parsed = sa.make_url(url)
    if parsed.get_backend_name() == "sqlite":
        return sqlite3.connect(parsed.database or "", timeout=0, isolation_level=None)
    return psycopg.connect(url, autocommit=True)


@pytest.fixture
async def harness(database_url: str) -> AsyncIterator[Harness]:
    unlimited = "100000/minute"
    settings = Settings(
        database_url=database_url,  # type: ignore[arg-type]  # pydantic reads
        mail_url=SecretStr("console:"),
        limit_network=unlimited,
        limit_total=unlimited,
        limit_registrations=unlimited,
    )
    app = create_app(settings)
    async with client(app) as api:
        await api.services.outbox.stop()  # so that queued entries stay and can be counted
        with closing(connection_to(database_url)) as observer:
            yield Harness(app, api, observer)


@pytest.fixture(autouse=True)
def without_garbage_collector() -> Iterator[None]:
    """Disables the garbage collector, which could release leaked resources by chance."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


QUICK = ("login token", "logout", "rename")
EACH = [
    name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in OPERATIONS
]


@pytest.mark.parametrize("name", EACH)
async def test_cancelled_at_every_await(harness: Harness, name: str) -> None:
    await cancel_at_every_await(harness, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["login token", "rename", "logout", "me", "ready"])
@pytest.mark.parametrize("again", [1, 2, 3, 5])
async def test_cancelled_twice(harness: Harness, name: str, again: int) -> None:
    await cancel_at_every_await(harness, name, again)


async def cancel_at_every_await(harness: Harness, name: str, again: int = 0) -> None:
    """Runs an operation, cancelled at its first await, its second, and so on until its end."""
    whole = await harness.outcome(name, Steps())
    for at in range(1, 300):
        steps = Steps(at, at + again)
        found = await harness.outcome(name, steps)
        assert found in (whole, {}), (at, found, whole)
        if not steps.is_cut:
            assert found == whole
            return
    raise AssertionError("the operation never ended")


async def test_requests_with_a_timeout_under_load(harness: Harness) -> None:
    """Like an application with a timeout of some milliseconds for each request."""
    chance = random.Random(42)
    tokens = [(await create_account(harness.api))[1] for _ in range(4)]
    cancelled = 0

    async def one(number: int) -> None:
        nonlocal cancelled
        token = tokens[number % len(tokens)]
        request = make_request("PATCH", "/me", token, {"name": f"name {number}"})
        work = ask(harness.app, "PATCH", b"/me", headers=request.headers, body=[request.body])
        try:
            async with asyncio.timeout(chance.uniform(0.0005, 0.008)):
                await work
        except TimeoutError:
            cancelled += 1

    for _ in range(10):
        await asyncio.gather(*(one(number) for number in range(20)))
    assert cancelled
    await harness.wait_until_released()
    assert (await harness.api.get("/health/ready")).status_code == 200
    renamed = await harness.api.patch("/me", json={"name": "last"}, headers=_headers(tokens[0]))
    assert renamed.status_code == 200
