"""Resident memory of one process after logins, refreshes and requests, on PostgreSQL.

Beside `authapi serve` with default settings: a bare FastAPI application, which gets as many
requests, and fastapi-users, which has no refresh tokens.
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks import client, processes
from benchmarks.bench import Bench, Running
from benchmarks.scenarios.grants import refresh_request
from benchmarks.scenarios.storm import authapi_login, fastapi_users_login
from benchmarks.stack import Account, Stack, accounts, bearer
from benchmarks.stacks import authapi, fastapi_users
from benchmarks.tables import table

ACCOUNTS = 100
SERVE = "authapi serve"


@dataclass(frozen=True, slots=True)
class Subject:
    """A stack, and its requests; a bare application gets GET requests instead of them."""

    name: str
    stack: Stack
    page: str
    login: Callable[[Account], bytes] | None = None
    refreshes: bool = False


def measure(bench: Bench) -> dict[str, Any]:
    """Measures each process once: memory does not depend on other load of the machine."""
    subjects = []
    if "bare" in bench.options.stacks:
        (bare,) = authapi.bare(bench)
        subjects.append(Subject("bare FastAPI", bare, "/plain"))
    if "authapi" in bench.options.stacks:
        stack = authapi.service(bench, "resident_authapi")
        subjects.append(Subject(SERVE, stack, "/me", lambda one: authapi_login(one, "jwt"), True))
    if "fastapi-users" in bench.options.stacks:
        stack = fastapi_users.stack(bench, "resident_fastapi_users")
        page = stack.guarded["opaque token"]
        subjects.append(Subject("fastapi-users", stack, page, fastapi_users_login))
    rows = []
    for subject in subjects:
        print(f"resident: {subject.name}", file=sys.stderr)
        with bench.running(subject.stack) as server:
            rows.append({"stack": subject.name, **_measure(bench, subject, server)})
    return {"rows": rows, "logins": bench.options.logins}


def _measure(bench: Bench, subject: Subject, server: Running) -> dict[str, float | None]:
    count = bench.options.logins
    started = _mebibytes(server)
    if subject.login is None:
        plain = [client.request(subject.page, {})] * count
        after = [_after(bench, server, plain) for _ in range(3)]
        return _figures(server, started, *after)
    known = accounts(min(ACCOUNTS, count))
    for account in known:
        subject.stack.register(server.client, account)
    logins = [subject.login(known[number % len(known)]) for number in range(count)]
    answers = _exchange(bench, server, logins)
    after_logins, after_refreshes = _mebibytes(server), None
    if subject.refreshes:
        tokens = [refresh_request(str(answer["refresh_token"])) for answer in answers]
        answers = _exchange(bench, server, tokens)
        after_refreshes = _mebibytes(server)
    pages = [client.request(subject.page, bearer(answer["access_token"])) for answer in answers]
    return _figures(server, started, after_logins, after_refreshes, _after(bench, server, pages))


def _figures(
    server: Running, started: float, logins: float, refreshes: float | None, pages: float
) -> dict[str, float | None]:
    return {
        "started_mib": started,
        "after_logins_mib": logins,
        "after_refreshes_mib": refreshes,
        "after_pages_mib": pages,
        "peak_mib": round(processes.peak_resident_bytes(server.pid) / 2**20, 1),
    }


def _after(bench: Bench, server: Running, wires: Sequence[bytes]) -> float:
    _exchange(bench, server, wires)
    return _mebibytes(server)


def _exchange(bench: Bench, server: Running, wires: Sequence[bytes]) -> list[dict[str, Any]]:
    bodies = client.run(
        client.bodies(server.stack.base, wires, connections=bench.options.connections)
    )
    return [json.loads(body) for body in bodies]


def _mebibytes(server: Running) -> float:
    return round(processes.resident_bytes(server.pid) / 2**20, 1)


def markdown(found: Mapping[str, Any]) -> str:
    """Returns the table."""
    head = ("RSS of one process, MiB", "started", "logins", "refreshes", "GET /me", "peak")
    keys = ("started_mib", "after_logins_mib", "after_refreshes_mib", "after_pages_mib", "peak_mib")
    rows = [(row["stack"], *(row[key] for key in keys)) for row in found["rows"]]
    return (
        f"## Memory after {found['logins']:,} logins, then refreshes, then GET /me\n\n"
        f"{table(head, rows)}\n\nThe bare application gets GET requests of an open route instead."
    )
