"""better-auth on Node.js, and better-auth-server, its port to Python.

Both have sessions in the database, which a cookie or a bearer token names, and an optional cookie
cache, which is a stack of its own here. Their JWTs are not measured: their documentation says that
these are for other services, and no replacement for the session.
"""

import json
from collections.abc import Mapping, Sequence

import httpx

from benchmarks import scratch
from benchmarks.bench import Bench
from benchmarks.machine import node_version, peer_versions
from benchmarks.stack import Account, Headers, Stack, bearer, cookies
from benchmarks.stacks.fastapi_users import with_driver
from benchmarks.stacks.serving import uvicorn
from tests.servers.process import free_port

COOKIE = "better-auth.session_token"
CACHE = "better-auth.session_data"


def python_stacks(bench: Bench) -> Sequence[Stack]:
    """Returns better-auth-server without and with its cookie cache."""
    return [_python(bench, cached) for cached in (False, True)]


def node_stacks(bench: Bench) -> Sequence[Stack]:
    """Returns better-auth without and with its cookie cache; none on SQLite: it is here with pg."""
    if bench.options.store == "sqlite":
        return []
    return [_node(bench, cached) for cached in (False, True)]


def _python(bench: Bench, cached: bool) -> Stack:
    port, python = free_port(), scratch.python_of_peers(bench.options.scratch)
    url = with_driver(bench.database(f"better_auth_server_{cached:d}"))
    return _stack(
        family="better-auth-server",
        port=port,
        command=uvicorn(python, "with_better_auth", port),
        environment={"DATABASE_URL": url},
        cached=cached,
        versions=peer_versions(python, "better-auth-server", "pyjwt", "cryptography"),
    )


def _node(bench: Bench, cached: bool) -> Stack:
    port, folder = free_port(), scratch.node(bench.options.scratch, "better_auth")
    pinned: dict[str, str] = json.loads((folder / "package.json").read_text())["dependencies"]
    return _stack(
        family="better-auth",
        port=port,
        command=("node", str(folder / "server.js")),
        environment={
            "NODE_ENV": "production",
            "DATABASE_URL": bench.database(f"better_auth_{cached:d}"),
            "PORT": str(port),
        },
        cached=cached,
        versions={"node": node_version(), **pinned},
    )


def _stack(
    *,
    family: str,
    port: int,
    command: Sequence[str],
    environment: Mapping[str, str],
    cached: bool,
    versions: Mapping[str, str],
) -> Stack:
    labels = ("session cookie",) if cached else ("session cookie", "opaque token")
    return Stack(
        name=f"{family}, cookie cache" if cached else family,
        family=family,
        port=port,
        command=command,
        environment={
            **environment,
            "BASE_URL": f"http://127.0.0.1:{port}",
            "COOKIE_CACHE": f"{cached:d}",
        },
        ready="/plain",
        plain={"no authentication": "/plain"},
        guarded=dict.fromkeys(labels, "/guarded"),
        register=_register,
        login=_login_cached if cached else _login,
        versions=versions,
    )


def _register(client: httpx.Client, account: Account) -> None:
    body = {**account.as_json, "name": account.username}
    _post(client, "/api/auth/sign-up/email", body)


def _login(client: httpx.Client, account: Account) -> Mapping[str, Headers]:
    answer = _post(client, "/api/auth/sign-in/email", account.as_json)
    return {
        "session cookie": cookies(client, answer, COOKIE),
        "opaque token": bearer(answer.json()["token"]),
    }


def _login_cached(client: httpx.Client, account: Account) -> Mapping[str, Headers]:
    answer = _post(client, "/api/auth/sign-in/email", account.as_json)
    return {"session cookie": cookies(client, answer, COOKIE, CACHE)}


def _post(client: httpx.Client, path: str, body: Mapping[str, str]) -> httpx.Response:
    client.cookies.clear()
    # The origin is checked, as that of a browser.
    origin = str(client.base_url).rstrip("/")
    return client.post(path, json=dict(body), headers={"Origin": origin}).raise_for_status()
