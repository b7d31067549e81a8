"""Logins and refreshes.

Each client logs in without pause, and then refreshes without pause, each time with the token of the
last response. fastapi-users has no refresh tokens: a client logs in again when its JWT expires, so
refreshes of authapi are compared with logins of fastapi-users.

CPU times are those of the process of the service, and of the service with PostgreSQL. From that of
a login, the CPU time of the hash alone is subtracted, measured in a process of its own directly
before and after the logins. authapi computes hashes in threads of lower priority, so that their CPU
time in the service is known too.
"""

import asyncio
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import mean, median
from time import perf_counter
from typing import Any
from urllib.parse import urlencode

from benchmarks import client, hashes, processes
from benchmarks.bench import Bench, Running
from benchmarks.hashes import Cost
from benchmarks.scenarios.storm import (
    FORM,
    argon2_cffi_cost,
    authapi_cost,
    authapi_login,
    fastapi_users_login,
)
from benchmarks.stack import Account, Stack, accounts
from benchmarks.stacks import authapi, fastapi_users
from benchmarks.tables import table

PEER = "fastapi-users"


@dataclass(frozen=True, slots=True)
class Subject:
    """A stack with JWT logins, the cost of its hash, and whether it has refresh tokens."""

    stack: Stack
    login: Callable[[Account], bytes]
    cost: Cost
    refreshes: bool = False


def measure(bench: Bench) -> dict[str, Any]:
    """Measures authapi and fastapi-users, each also with the hash of the other."""
    subjects = [subject for name in bench.options.stacks for subject in _subjects(bench, name)]
    found: dict[str, list[dict[str, float]]] = {}
    running = [bench.enter(bench.running(subject.stack)) for subject in subjects]
    for server in running:
        for account in accounts(bench.options.connections):
            server.stack.register(server.client, account)
    for number in range(bench.options.rounds):
        print(f"grants: round {number + 1} of {bench.options.rounds}", file=sys.stderr)
        pairs = list(zip(subjects, running, strict=True))
        for subject, server in pairs if number % 2 == 0 else reversed(pairs):
            found.setdefault(subject.stack.name, []).append(_round(bench, subject, server))
    rows = [_row(subject, found) for subject in subjects]
    return {
        "rows": rows,
        "clients": bench.options.connections,
        "versions": {subject.stack.family: dict(subject.stack.versions) for subject in subjects},
    }


def _subjects(bench: Bench, family: str) -> Sequence[Subject]:
    theirs = argon2_cffi_cost()
    if family == "authapi":
        stack = authapi.service(bench, "grants_authapi")
        same = authapi.service(bench, "grants_authapi_same")
        # The parameters of fastapi-users, for a comparison with the same hash.
        costs = {"MEMORY": theirs.memory, "PASSES": theirs.passes, "LANES": theirs.lanes}
        environment = {f"AUTHAPI_ARGON2_{name}": str(value) for name, value in costs.items()}
        return [
            Subject(replace(stack, name="authapi"), _authapi_jwt, authapi_cost(), True),
            Subject(
                replace(
                    same,
                    name="authapi, hash of fastapi-users",
                    environment={**same.environment, **environment},
                ),
                _authapi_jwt,
                theirs,
                True,
            ),
        ]
    if family == PEER:
        stack = fastapi_users.stack(bench, "grants_fastapi_users")
        return [Subject(stack, _fastapi_users_jwt, theirs)]
    return []


def _round(bench: Bench, subject: Subject, server: Running) -> dict[str, float]:
    known = accounts(bench.options.connections)
    seconds, base = bench.options.seconds, server.stack.base
    hash_before = hashes.measure(subject.cost, seconds / 4)
    used = _Used(bench, server)
    logins = client.run(
        client.without_pause(base, [subject.login(one) for one in known], seconds=seconds)
    )
    cpu = used.by(len(logins.latencies))
    hash_ms = mean([hash_before.cpu_ms, hashes.measure(subject.cost, seconds / 4).cpu_ms])
    found = {
        "logins_per_second": logins.rate,
        "login_p99_ms": logins.percentile(0.99),
        "login_cpu_ms": cpu.service,
        "hash_cpu_ms": hash_ms,
        "login_besides_hash_ms": cpu.service + cpu.store - hash_ms,
        "login_store_cpu_ms": cpu.store,
        "refused": float(sum(logins.others.values())),
    }
    # Only authapi hashes in threads of lower priority. With several lanes, most of the hash is in
    # threads that have ended.
    if subject.refreshes and subject.cost.lanes == 1:
        found |= {
            "login_hash_threads_ms": cpu.low_priority,
            "login_besides_threads_ms": cpu.service + cpu.store - cpu.low_priority,
        }
    if subject.refreshes:
        tokens = client.run(_logged_in(base, [subject.login(one) for one in known]))
        used = _Used(bench, server)
        done = client.run(_refreshing(base, tokens, seconds))
        cpu = used.by(len(done.latencies))
        found |= {
            "refreshes_per_second": done.rate,
            "refresh_p99_ms": done.percentile(0.99),
            "refresh_cpu_ms": cpu.service,
            "refresh_total_cpu_ms": cpu.service + cpu.store,
            "refused": found["refused"] + sum(done.others.values()),
        }
    return found


@dataclass(frozen=True, slots=True)
class _Cpu:
    """Milliseconds of CPU time for each of several requests."""

    service: float
    low_priority: float
    """The part of `service` in threads of lower priority that still run: those of the hashes."""
    store: float


class _Used:
    """The CPU time that a server and PostgreSQL use from now on."""

    def __init__(self, bench: Bench, server: Running) -> None:
        self._bench, self._server = bench, server
        self._before = self._read()

    def by(self, requests: int) -> _Cpu:
        """Returns the CPU time since the start, for one of so many requests."""
        service, low, store = (
            (now - before) / requests * 1000
            for now, before in zip(self._read(), self._before, strict=True)
        )
        return _Cpu(service, low, store)

    def _read(self) -> tuple[float, float, float]:
        pid = self._server.pid
        # Of the whole process: with several lanes, a hash starts threads, which end with it.
        service = processes.cpu_seconds(pid)
        _, low = processes.exact_cpu_seconds_by_priority(pid)
        return service, low, self._bench.postgres_cpu_seconds()


def refresh_request(token: str) -> bytes:
    """Returns the bytes of a refresh at authapi."""
    form = {"grant_type": "refresh_token", "refresh_token": token}
    return client.request("/token", FORM, urlencode(form).encode())


async def _logged_in(base: str, logins: Sequence[bytes]) -> list[str]:
    """Logs in; returns the refresh tokens."""

    async def one(login: bytes) -> str:
        connection = await client.Connection.open(base)
        _, body = await connection.exchange(login)
        connection.close()
        return str(json.loads(body)["refresh_token"])

    return await asyncio.gather(*(one(login) for login in logins))


async def _refreshing(base: str, tokens: Sequence[str], seconds: float) -> client.Answers:
    """Runs one client per token, which refreshes without pause, each time with its newest token."""
    answers = client.Answers()
    begun = perf_counter()

    async def one(token: str) -> None:
        connection = await client.Connection.open(base)
        while perf_counter() - begun < seconds:
            wire = refresh_request(token)
            sent = perf_counter()
            status, body = await connection.exchange(wire)
            answers.add(status, perf_counter() - sent)
            if status != 200:
                break  # the client has no token to continue with
            token = json.loads(body)["refresh_token"]
        connection.close()

    async with asyncio.TaskGroup() as group:
        for token in tokens:
            group.create_task(one(token))
    answers.seconds = perf_counter() - begun
    return answers


def _row(subject: Subject, found: Mapping[str, list[dict[str, float]]]) -> dict[str, Any]:
    rounds, peers = found[subject.stack.name], found.get(PEER)
    cost = subject.cost
    row: dict[str, Any] = {
        "stack": subject.stack.name,
        "argon2": f"m={cost.memory} KiB, t={cost.passes}, p={cost.lanes}",
        **{name: round(median(one[name] for one in rounds), 3) for name in rounds[0]},
        "by_round": [{name: round(value, 2) for name, value in one.items()} for one in rounds],
    }
    if subject.refreshes:
        row["refreshes_to_own_logins"] = _ratio(rounds, "refreshes_per_second", rounds)
    if peers is not None:
        row["logins_to_peer"] = _ratio(rounds, "logins_per_second", peers)
        if subject.refreshes:
            row["refreshes_to_peer"] = _ratio(rounds, "refreshes_per_second", peers)
    return row


def _ratio(
    rounds: Sequence[Mapping[str, float]], key: str, others: Sequence[Mapping[str, float]]
) -> float:
    """Returns the ratio of a figure to the logins of the same round."""
    pairs = zip(rounds, others, strict=True)
    return round(median(ours[key] / theirs["logins_per_second"] for ours, theirs in pairs), 2)


def _authapi_jwt(account: Account) -> bytes:
    return authapi_login(account, "jwt")


def _fastapi_users_jwt(account: Account) -> bytes:
    return fastapi_users_login(account, "jwt")


def markdown(found: Mapping[str, Any]) -> str:
    """Returns the table."""
    head = (
        *("stack (argon2id)", "logins/s", f"to logins of {PEER}", "p99 ms", "CPU ms/login"),
        *("refreshes/s", "to its own logins", f"to logins of {PEER}", "p99 ms", "CPU ms/refresh"),
        *("with PostgreSQL", "refused"),
    )
    keys = (
        *("logins_per_second", "logins_to_peer", "login_p99_ms", "login_cpu_ms"),
        *("refreshes_per_second", "refreshes_to_own_logins", "refreshes_to_peer"),
        *("refresh_p99_ms", "refresh_cpu_ms", "refresh_total_cpu_ms"),
    )
    rows = [
        (
            f"{row['stack']} ({row['argon2']})",
            *(row.get(key) for key in keys),
            int(row["refused"]),
        )
        for row in found["rows"]
    ]
    text = f"## {found['clients']} clients that log in, and that refresh, without pause"
    return f"{text}\n\n{table(head, rows)}\n\n{_logins(found)}"


def _logins(found: Mapping[str, Any]) -> str:
    head = (
        *("CPU of a login, ms", "service", "PostgreSQL", "the hash alone"),
        *("service and PostgreSQL without it", "threads of the hashes in the service"),
        "service and PostgreSQL without these",
    )
    keys = (
        *("login_cpu_ms", "login_store_cpu_ms", "hash_cpu_ms", "login_besides_hash_ms"),
        *("login_hash_threads_ms", "login_besides_threads_ms"),
    )
    # Other services hash in threads of normal priority, which cannot be told from the others.
    rows = [(row["stack"], *(row.get(key) for key in keys)) for row in found["rows"]]
    return table(head, rows)
