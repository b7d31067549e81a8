"""The bare FastAPI baseline, and authapi as a service and in an application."""

import sys
from collections.abc import Mapping, Sequence

import httpx

from benchmarks.bench import Bench
from benchmarks.machine import authapi_versions
from benchmarks.stack import Account, Headers, Stack, bearer, cookies
from benchmarks.stacks.serving import uvicorn
from tests.servers.process import free_port

STRATEGIES = {"session cookie": "session", "opaque token": "token", "JWT": "jwt"}


CONTROL = "bare FastAPI once more"


def bare(bench: Bench) -> Sequence[Stack]:
    """Returns FastAPI routes without authentication."""
    return [_bare("bare FastAPI", {"no authentication, body of GET /me": "/me"})]


def control(bench: Bench) -> Sequence[Stack]:
    """Returns the bare application once more, for the control of a comparison."""
    return [_bare(CONTROL, {})]


def _bare(name: str, others: Mapping[str, str]) -> Stack:
    port = free_port()
    return Stack(
        name=name,
        family="bare",
        port=port,
        command=uvicorn(sys.executable, "bare", port),
        environment={},
        ready="/plain",
        plain={"no authentication": "/plain", **others},
    )


def stacks(bench: Bench) -> Sequence[Stack]:
    """Returns the service with GET /me, and an application with authapi and one route."""
    return [service(bench, "authapi_serve"), application(bench, "authapi_app")]


def service(bench: Bench, database: str) -> Stack:
    """Returns `authapi serve` with default settings."""
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
        versions=authapi_versions(),
    )


def application(bench: Bench, database: str, *, identity_cache_size: int | None = None) -> Stack:
    """Returns an application in which authapi is installed."""
    port = free_port()
    return Stack(
        name="authapi in an application",
        family="authapi",
        port=port,
        command=uvicorn(sys.executable, "with_authapi", port),
        environment=bench.authapi_environment(database, identity_cache_size=identity_cache_size),
        ready="/health/ready",
        plain={"no authentication": "/plain"},
        guarded=dict.fromkeys(STRATEGIES, "/guarded"),
        register=register,
        login=login,
        versions=authapi_versions(),
    )


def register(client: httpx.Client, account: Account) -> None:
    """Registers an account."""
    client.post("/register", json=account.as_json).raise_for_status()


def login(client: httpx.Client, account: Account) -> Mapping[str, Headers]:
    """Logs in with each strategy; returns the headers by strategy."""
    found: dict[str, Headers] = {}
    for label, strategy in STRATEGIES.items():
        answer = client.post("/login", json={**account.as_json, "strategy": strategy})
        answer.raise_for_status()
        if strategy == "session":
            found[label] = cookies(client, answer, "authapi")
        else:
            found[label] = bearer(answer.json()["access_token"])
    return found
