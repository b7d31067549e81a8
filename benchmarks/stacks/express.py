"""Express with Passport: sessions and opaque tokens in PostgreSQL, and JWT."""

import json
from collections.abc import Mapping, Sequence

import httpx

from benchmarks import scratch
from benchmarks.bench import Bench
from benchmarks.machine import node_version
from benchmarks.stack import Account, Headers, Stack, bearer, cookies
from tests.servers.process import free_port


def stacks(bench: Bench) -> Sequence[Stack]:
    """Returns one stack, or none on SQLite, which its session store does not support."""
    if bench.options.store == "sqlite":
        return []
    folder, port = scratch.node(bench.options.scratch, "express"), free_port()
    pinned: dict[str, str] = json.loads((folder / "package.json").read_text())["dependencies"]
    stack = Stack(
        name="Express + Passport",
        family="express",
        port=port,
        command=("node", str(folder / "server.js")),
        environment={
            "NODE_ENV": "production",
            "DATABASE_URL": bench.database("express"),
            "PORT": str(port),
        },
        ready="/plain",
        plain={"no authentication": "/plain"},
        guarded={
            "session cookie": "/guarded/cookie",
            "opaque token": "/guarded/token",
            "JWT": "/guarded/jwt",
        },
        register=_register,
        login=_login,
        versions={"node": node_version(), **pinned},
    )
    return [stack]


def _register(client: httpx.Client, account: Account) -> None:
    client.post("/register", json=account.as_json).raise_for_status()


def _login(client: httpx.Client, account: Account) -> Mapping[str, Headers]:
    answer = client.post("/login", json=account.as_json).raise_for_status()
    issued = answer.json()
    return {
        "session cookie": cookies(client, answer, "connect.sid"),
        "opaque token": bearer(issued["token"]),
        "JWT": bearer(issued["jwt"]),
    }
