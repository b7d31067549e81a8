"""A request is cancelled at each of its awaits: nothing is left locked, in use, or half done."""

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
from authapi.identity import Event
from authapi.services.addresses import parse_email
from authapi.testing import PASSWORD, Client, client
from tests.storage.cancelling import Steps
from tests.web.raw import RawHeaders, ask

NEW_PASSWORD = PASSWORD[::-1]
JSON = (b"content-type", b"application/json")
FORM = (b"content-type", b"application/x-www-form-urlencoded")


@dataclass
class Request:
    """What is sent, and the credential that afterwards has to be what the database says."""

    method: str
    path: str
    body: bytes = b""
    headers: RawHeaders = ()
    bearer: str | None = None


Prepare = Callable[[Client], Awaitable[Request]]


async def bearer(
    api: Client, strategy: str = "token", *, is_superuser: bool = False
) -> tuple[str, str, str]:
    """A fresh account that is logged in: its address, its token, and its refresh token if any."""
    account = await api.create_user(is_superuser=is_superuser)
    login = {"email": account.email, "password": PASSWORD, "strategy": strategy}
    answer = (await api.post("/login", json=login)).json()
    return account.email, answer["access_token"], answer.get("refresh_token", "")


def sent(method: str, path: str, token: str | None, body: object = None) -> Request:
    headers = [JSON] if body is not None else []
    if token is not None:
        headers.append((b"authorization", b"Bearer " + token.encode()))
    content = b"" if body is None else json.dumps(body).encode()
    return Request(method, path, content, headers, token)


async def register(api: Client) -> Request:
    user = await api.create_user()
    return sent("POST", "/register", None, {"email": f"x{user.email}", "password": PASSWORD})


def login_by(strategy: str) -> Prepare:
    async def login(api: Client) -> Request:
        user = await api.create_user()
        credentials = {"email": user.email, "password": PASSWORD, "strategy": strategy}
        return sent("POST", "/login", None, credentials)

    return login


async def refused_login(api: Client) -> Request:
    user = await api.create_user()
    return sent("POST", "/login", None, {"email": user.email, "password": NEW_PASSWORD})


async def logout(api: Client) -> Request:
    return sent("POST", "/logout", (await bearer(api))[1])


async def rename(api: Client) -> Request:
    return sent("PATCH", "/me", (await bearer(api))[1], {"name": "Robert"})


async def change_password(api: Client) -> Request:
    _, token, _ = await bearer(api, "jwt")
    change = {"current_password": PASSWORD, "new_password": NEW_PASSWORD}
    return sent("POST", "/me/password", token, change)


async def make_token(api: Client) -> Request:
    _, token, _ = await bearer(api, "jwt")
    return sent("POST", "/me/tokens", token, {"name": "script"})


async def end_others(api: Client) -> Request:
    email, token, _ = await bearer(api, "jwt")
    await api.post("/login", json={"email": email, "password": PASSWORD, "strategy": "token"})
    return sent("DELETE", "/me/sessions", token)


async def delete_account(api: Client) -> Request:
    return sent("DELETE", "/me", (await bearer(api))[1])


async def refresh(api: Client) -> Request:
    _, _, token = await bearer(api, "jwt")
    body = f"grant_type=refresh_token&refresh_token={token}".encode()
    return Request("POST", "/token", body, [FORM])


async def revoke(api: Client) -> Request:
    _, token, _ = await bearer(api)
    return Request("POST", "/token/revoke", f"token={token}".encode(), [FORM], token)


async def forgot(api: Client) -> Request:
    user = await api.create_user()
    return sent("POST", "/password/forgot", None, {"email": user.email})


async def request_change(api: Client) -> Request:
    _, token, _ = await bearer(api, "jwt")
    change = {"email": "new@example.com", "password": PASSWORD}
    return sent("POST", "/me/email", token, change)


async def deactivate(api: Client) -> Request:
    email, token, _ = await bearer(api)
    _, admin, _ = await bearer(api, "jwt", is_superuser=True)
    user = await api.services.accounts.find_by_email(parse_email(email))
    found = sent("PATCH", f"/admin/users/{user.id}", admin, {"is_active": False})
    found.bearer = token
    return found


async def invite(api: Client) -> Request:
    _, admin, _ = await bearer(api, "jwt", is_superuser=True)
    user = await api.create_user()
    return sent("POST", "/admin/users", admin, {"email": f"y{user.email}"})


async def who_am_i(api: Client) -> Request:
    email, token, _ = await bearer(api)
    await api.patch("/me", json={"name": email}, headers=_of(token))  # nothing is remembered
    return sent("GET", "/me", token)


async def events(api: Client) -> Request:
    return sent("GET", "/me/events", (await bearer(api))[1])


async def ready(api: Client) -> Request:
    return Request("GET", "/health/ready")


def _of(token: str) -> dict[str, str]:
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
    "me": who_am_i,
    "events": events,
    "ready": ready,
}


TABLES = ("users", "sessions", "refresh_families", "one_time_secrets", "outbox")
COUNTS = " UNION ALL ".join(
    [
        *(f"SELECT '{table}', count(*) FROM {table}" for table in TABLES),
        "SELECT 'renamed', count(*) FROM users WHERE name = 'Robert'",
        "SELECT 'event ' || type, count(*) FROM events GROUP BY type",
    ]
)


@dataclass
class House:
    """The application, its client and its database."""

    app: FastAPI
    api: Client
    beside: sqlite3.Connection | psycopg.Connection
    """Another client of the same database."""
    told: Counter[str] = field(default_factory=Counter)
    """The events that listeners were told of: the log, metrics."""

    def __post_init__(self) -> None:
        database = self.api.services.database
        listener = database.on_commit

        def tell(event: Event) -> None:
            self.told[f"event {event.type.value}"] += 1
            listener(event)

        database.on_commit = tell

    async def outcome(self, name: str, steps: Steps) -> dict[str, int]:
        """How many more rows of each kind there are after an operation that is cut by `steps`.

        All else has to be as if nothing had happened.
        """
        request = await OPERATIONS[name](self.api)
        before, told = self.counted(), self.told.copy()
        content = [request.body]
        path = request.path.encode()
        await steps.run(ask(self.app, request.method, path, headers=request.headers, body=content))
        await self.nothing_is_left()
        after = self.counted()
        for kind in after:
            if kind.startswith("event "):
                assert self.told[kind] - told[kind] == after[kind] - before[kind]
        if request.bearer is not None:
            # The memory of callers agrees with the database: what is committed counts.
            answer = await self.api.get("/me/identity", headers=_of(request.bearer))
            assert answer.status_code == (200 if self.is_alive(request.bearer) else 401)
        return {kind: n - before[kind] for kind, n in after.items() if n != before[kind]}

    async def nothing_is_left(self) -> None:
        """Return once all is free; what still runs in a thread or in the server is soon over."""
        services = self.api.services
        deadline = asyncio.get_running_loop().time() + 5
        while (
            not self.is_free() or services.database.connections_in_use or services.passwords.running
        ):
            assert asyncio.get_running_loop().time() < deadline
            await asyncio.sleep(0.001)

    def is_free(self) -> bool:
        """Whether another process could write at this moment."""
        if isinstance(self.beside, sqlite3.Connection):
            try:
                self.beside.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                return False
            self.beside.execute("ROLLBACK")
            return True
        [[busy]] = self.beside.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND pid <> pg_backend_pid() AND xact_start IS NOT NULL"
        )
        return bool(busy == 0)

    def counted(self) -> Counter[str]:
        """The number of rows of each kind."""
        found = Counter[str]()
        for kind, number in self.beside.execute(COUNTS):
            found[str(kind)] = int(str(number))
        return found

    def is_alive(self, token: str) -> bool:
        """Whether there is a session behind `token`, and its owner is active."""
        if token.startswith("aat_"):
            digest = hash_secret(token).digest.hex()
            literal = (
                f"x'{digest}'" if isinstance(self.beside, sqlite3.Connection) else f"'\\x{digest}'"
            )
            one = f"s.secret_hash = {literal}"
        else:
            claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "==="))
            one = f"s.id = '{UUID(claims['sid']).hex}'"
        join = "SELECT count(*) FROM sessions s JOIN users u ON u.id = s.user_id"
        [[number]] = self.beside.execute(f"{join} WHERE u.is_active AND {one}")
        return int(str(number)) == 1


def connection_to(url: str) -> sqlite3.Connection | psycopg.Connection:
    parsed = sa.make_url(url)
    if parsed.get_backend_name() == "sqlite":
        return sqlite3.connect(parsed.database or "", timeout=0, isolation_level=None)
    return psycopg.connect(url, autocommit=True)


@pytest.fixture
async def house(database_url: str) -> AsyncIterator[House]:
    many = "100000/minute"
    settings = Settings(
        database_url=database_url,  # type: ignore[arg-type]  # pydantic reads
        mail_url=SecretStr("console:"),
        limit_network=many,
        limit_total=many,
        limit_registrations=many,
    )
    app = create_app(settings)
    async with client(app) as api:
        await api.services.outbox.stop()  # what is queued stays, to be counted
        with closing(connection_to(database_url)) as beside:
            yield House(app, api, beside)


@pytest.fixture(autouse=True)
def without_collector() -> Iterator[None]:
    """What the collector would clean up by chance stays where it is."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


QUICK = ("login token", "logout", "rename")
EACH = [
    name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in OPERATIONS
]


@pytest.mark.parametrize("name", EACH)
async def test_cancelled_at_every_await(house: House, name: str) -> None:
    await cut_everywhere(house, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["login token", "rename", "logout", "me", "ready"])
@pytest.mark.parametrize("again", [1, 2, 3, 5])
async def test_cancelled_twice(house: House, name: str, again: int) -> None:
    await cut_everywhere(house, name, again)


async def cut_everywhere(house: House, name: str, again: int = 0) -> None:
    """Run an operation, cancelled at its first await, its second, and so on to its end."""
    whole = await house.outcome(name, Steps())
    for at in range(1, 300):
        steps = Steps(at, at + again)
        found = await house.outcome(name, steps)
        assert found in (whole, {}), (at, found, whole)
        if not steps.is_cut:
            assert found == whole
            return
    raise AssertionError("it never came to its end")


async def test_under_load_with_a_time_out_around_each_request(house: House) -> None:
    """As an application does that gives each request a few milliseconds."""
    chance = random.Random(42)
    tokens = [(await bearer(house.api))[1] for _ in range(4)]
    cut = 0

    async def one(number: int) -> None:
        nonlocal cut
        token = tokens[number % len(tokens)]
        request = sent("PATCH", "/me", token, {"name": f"name {number}"})
        work = ask(house.app, "PATCH", b"/me", headers=request.headers, body=[request.body])
        try:
            async with asyncio.timeout(chance.uniform(0.0005, 0.008)):
                await work
        except TimeoutError:
            cut += 1

    for _ in range(10):
        await asyncio.gather(*(one(number) for number in range(20)))
    assert cut
    await house.nothing_is_left()
    assert (await house.api.get("/health/ready")).status_code == 200
    renamed = await house.api.patch("/me", json={"name": "last"}, headers=_of(tokens[0]))
    assert renamed.status_code == 200
