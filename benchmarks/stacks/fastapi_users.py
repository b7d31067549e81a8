"""fastapi-users with SQLAlchemy: cookie and bearer token from the database, and JWT."""

from collections.abc import Mapping, Sequence

import httpx

from benchmarks.bench import Bench
from benchmarks.machine import peer_versions
from benchmarks.scratch import python_of_peers
from benchmarks.stack import Account, Headers, Stack, bearer, cookies
from benchmarks.stacks.serving import uvicorn
from tests.servers.process import free_port

PACKAGES = ("fastapi-users", "fastapi-users-db-sqlalchemy", "pwdlib", "argon2-cffi")


def stacks(bench: Bench) -> Sequence[Stack]:
    """Returns the only stack."""
    return [stack(bench, "fastapi_users")]


def stack(bench: Bench, database: str) -> Stack:
    """Returns the stack on a new database of this name."""
    port, python = free_port(), python_of_peers(bench.options.scratch)
    return Stack(
        name="fastapi-users",
        family="fastapi-users",
        port=port,
        command=uvicorn(python, "with_fastapi_users", port),
        environment={"DATABASE_URL": with_driver(bench.database(database))},
        ready="/plain",
        plain={"no authentication": "/plain"},
        guarded={
            "session cookie": "/guarded/cookie",
            "opaque token": "/guarded/token",
            "JWT": "/guarded/jwt",
        },
        register=_register,
        login=_login,
        versions=peer_versions(python, *PACKAGES),
    )


def with_driver(url: str) -> str:
    """Returns `url` with the asynchronous driver from the documentation of the project."""
    return url.replace("postgresql:", "postgresql+asyncpg:").replace("sqlite:", "sqlite+aiosqlite:")


def _register(client: httpx.Client, account: Account) -> None:
    client.post("/auth/register", json=account.as_json).raise_for_status()


def _login(client: httpx.Client, account: Account) -> Mapping[str, Headers]:
    answer = client.post("/auth/cookie/login", data=account.as_form).raise_for_status()
    found: dict[str, Headers] = {"session cookie": cookies(client, answer, "fastapiusersauth")}
    for name, label in (("token", "opaque token"), ("jwt", "JWT")):
        answer = client.post(f"/auth/{name}/login", data=account.as_form).raise_for_status()
        found[label] = bearer(answer.json()["access_token"])
    return found
