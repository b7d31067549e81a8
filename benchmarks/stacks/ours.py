"""The bare yardstick, and authapi: as a service, and installed into an application."""

import sys
from collections.abc import Mapping, Sequence

import httpx

from benchmarks.bench import Bench
from benchmarks.machine import our_versions
from benchmarks.stack import Account, Headers, Stack, bearer, cookie
from benchmarks.stacks.serving import uvicorn
from tests.servers.process import free_port

STRATEGIES = {"session cookie": "session", "opaque token": "token", "JWT": "jwt"}


def bare(bench: Bench) -> Sequence[Stack]:
    """FastAPI routes that know nobody."""
    port = free_port()
    stack = Stack(
        name="bare FastAPI",
        family="bare",
        port=port,
        command=uvicorn(sys.executable, "bare", port),
        environment={},
        ready="/plain",
        plain={"no authentication": "/plain", "no authentication, body of GET /me": "/me"},
    )
    return [stack]


def authapi(bench: Bench) -> Sequence[Stack]:
    """The service with its GET /me, and an application with authapi and a route of its own."""
    return [service(bench, "authapi_serve"), application(bench, "authapi_app")]


def service(bench: Bench, database: str) -> Stack:
    """`authapi serve` with its defaults."""
    port = free_port()
    return Stack(
        name="authapi serve, GET /me",
        family="authapi",
        port=port,
        command=(sys.executable, "-m", "authapi", "serve", "--port", str(port)),
        environment=bench.authapi_environment(database),
        ready="/health/ready",
        plain={},
        guarded=dict.fromkeys(STRATEGIES, "/me"),
        register=register,
        login=login,
        versions=our_versions(),
    )


def application(bench: Bench, database: str, *, known_callers: int | None = None) -> Stack:
    """An application with authapi installed, and every middleware that it brings."""
    port = free_port()
    return Stack(
        name="authapi in an application",
        family="authapi",
        port=port,
        command=uvicorn(sys.executable, "with_authapi", port),
        environment=bench.authapi_environment(database, known_callers=known_callers),
        ready="/health/ready",
        plain={"no authentication": "/plain"},
        guarded=dict.fromkeys(STRATEGIES, "/guarded"),
        register=register,
        login=login,
        versions=our_versions(),
    )


def register(client: httpx.Client, account: Account) -> None:
    """Make an account."""
    client.post("/register", json=account.as_json).raise_for_status()


def login(client: httpx.Client, account: Account) -> Mapping[str, Headers]:
    """One login for each strategy."""
    found: dict[str, Headers] = {}
    for label, strategy in STRATEGIES.items():
        answer = client.post("/login", json={**account.as_json, "strategy": strategy})
        answer.raise_for_status()
        if strategy == "session":
            found[label] = cookie(client, answer, "authapi")
        else:
            found[label] = bearer(answer.json()["access_token"])
    return found
