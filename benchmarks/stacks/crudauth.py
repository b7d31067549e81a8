"""crudauth: sessions in the database or in memory, and JWT."""

from collections.abc import Mapping, Sequence

import httpx

from benchmarks.bench import Bench
from benchmarks.machine import peer_versions
from benchmarks.scratch import python_of_peers
from benchmarks.stack import Account, Headers, Stack, bearer, cookies
from benchmarks.stacks.fastapi_users import with_driver
from benchmarks.stacks.serving import uvicorn
from tests.servers.process import free_port


def stacks(bench: Bench) -> Sequence[Stack]:
    """Returns crudauth with sessions in the database, and with its default."""
    return [_stack(bench, "database"), _stack(bench, "memory")]


def _stack(bench: Bench, sessions: str) -> Stack:
    port, python = free_port(), python_of_peers(bench.options.scratch)
    return Stack(
        name="crudauth" if sessions == "database" else "crudauth, sessions in its memory",
        family="crudauth",
        port=port,
        command=uvicorn(python, "with_crudauth", port),
        environment={
            "DATABASE_URL": with_driver(bench.database(f"crudauth_{sessions}")),
            "CRUDAUTH_SESSIONS": sessions,
        },
        ready="/plain",
        plain={"no authentication": "/plain"},
        guarded={"session cookie": "/guarded/cookie", "JWT": "/guarded/jwt"},
        register=_register,
        login=_login,
        versions=peer_versions(python, "crudauth", "pyjwt", "bcrypt"),
    )


def _register(client: httpx.Client, account: Account) -> None:
    client.post(
        "/register", json={**account.as_json, "username": account.username}
    ).raise_for_status()


def _login(client: httpx.Client, account: Account) -> Mapping[str, Headers]:
    session = client.post("/login", data=account.as_form).raise_for_status()
    found: dict[str, Headers] = {"session cookie": cookies(client, session, "session_id")}
    token = client.post("/token", data=account.as_form).raise_for_status()
    client.cookies.clear()
    found["JWT"] = bearer(token.json()["access_token"])
    return found
