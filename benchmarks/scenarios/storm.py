"""Latency of a protected route, and the rate of logins, during many concurrent logins.

Eight clients log in without pause while an authenticated client sends fifty requests per second to
a protected route, independent of responses. The rate of logins is compared with the rate at which
this machine computes the same hash without other load, measured before and after.
"""

import asyncio
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import mean, median
from typing import Any
from urllib.parse import urlencode

import argon2

from authapi.settings import Settings
from benchmarks import client, hashes, processes
from benchmarks.bench import Bench, Running
from benchmarks.hashes import Cost
from benchmarks.stack import Account, Stack, accounts
from benchmarks.stacks import authapi, fastapi_users
from benchmarks.tables import table

CLIENTS = 8
INTERVAL = 0.02
JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@dataclass(frozen=True, slots=True)
class Storm:
    """A stack, its login request, and the cost of its hash."""

    stack: Stack
    login: Callable[[Account], bytes]
    cost: Cost


def measure(bench: Bench) -> dict[str, Any]:
    """Measures authapi and fastapi-users, each with its default hash."""
    storms = []
    if "authapi" in bench.options.stacks:
        storms.append(
            Storm(authapi.application(bench, "storm_authapi"), authapi_login, authapi_cost())
        )
    if "fastapi-users" in bench.options.stacks:
        stack = fastapi_users.stack(bench, "storm_fastapi_users")
        storms.append(Storm(stack, fastapi_users_login, argon2_cffi_cost()))
    rows = []
    for storm in storms:
        print(f"storm: {storm.stack.name}", file=sys.stderr)
        with bench.running(storm.stack) as server:
            rows.append(_measure_storm(bench, server, storm))
    return {"rows": rows, "clients": CLIENTS, "interval_s": INTERVAL}


def authapi_cost() -> Cost:
    """Returns the default parameters of authapi."""
    settings = Settings.model_fields
    return Cost(*(settings[f"argon2_{name}"].default for name in ("memory", "passes", "lanes")))


def argon2_cffi_cost() -> Cost:
    """Returns the parameters of fastapi-users, which uses pwdlib."""
    return Cost(argon2.DEFAULT_MEMORY_COST, argon2.DEFAULT_TIME_COST, argon2.DEFAULT_PARALLELISM)


def _measure_storm(bench: Bench, server: Running, storm: Storm) -> dict[str, Any]:
    known = accounts(CLIENTS + 1)
    for account in known:
        storm.stack.register(server.client, account)
    page = storm.stack.guarded["opaque token"]
    headers = storm.stack.login(server.client, known[0])["opaque token"]
    wire, logins = client.request(page, headers), [storm.login(other) for other in known[1:]]
    seconds = bench.options.seconds
    rounds = [_round(storm, wire, logins, seconds) for _ in range(bench.options.rounds)]
    return {
        "stack": storm.stack.name,
        "argon2": f"m={storm.cost.memory} KiB, t={storm.cost.passes}, p={storm.cost.lanes}",
        **{name: round(median(found[name] for found in rounds), 3) for name in rounds[0]},
        "peak_resident_mib": round(processes.peak_resident_bytes(server.pid) / 2**20, 1),
    }


def _round(storm: Storm, wire: bytes, logins: list[bytes], seconds: float) -> dict[str, float]:
    base = storm.stack.base
    before = hashes.measure(storm.cost, seconds / 2).per_second

    async def idle_load() -> client.Answers:
        await client.at_each_tick(base, wire, interval=INTERVAL, seconds=0.2)
        return await client.at_each_tick(base, wire, interval=INTERVAL, seconds=seconds)

    async def under_load() -> tuple[client.Answers, client.Answers]:
        return await asyncio.gather(
            client.at_each_tick(base, wire, interval=INTERVAL, seconds=seconds),
            client.without_pause(base, logins, seconds=seconds),
        )

    idle, (page, done) = client.run(idle_load()), client.run(under_load())
    rate = mean([before, hashes.measure(storm.cost, seconds / 2).per_second])
    if idle.others or page.others:
        raise SystemExit(f"{storm.stack.name}: the protected route answered {page.others}")
    return {
        "idle_p50_ms": idle.percentile(0.5),
        "idle_p99_ms": idle.percentile(0.99),
        "storm_p50_ms": page.percentile(0.5),
        "storm_p99_ms": page.percentile(0.99),
        "logins_per_second": done.rate,
        "hashes_per_second": rate,
        "logins_to_hashes": done.rate / rate,
        "refused": sum(done.others.values()),
    }


def authapi_login(account: Account, strategy: str = "token") -> bytes:
    """Returns the bytes of a login request to authapi."""
    body = json.dumps({**account.as_json, "strategy": strategy}).encode()
    return client.request("/login", JSON, body)


def fastapi_users_login(account: Account, backend: str = "token") -> bytes:
    """Returns the bytes of a login request to fastapi-users."""
    return client.request(f"/auth/{backend}/login", FORM, urlencode(account.as_form).encode())


def markdown(found: Mapping[str, Any]) -> str:
    """Returns the table."""
    head = (
        *("stack (argon2id)", "protected route idle, p50 / p99 ms", "in the storm, p50 / p99 ms"),
        *("p99 to idle", "logins/s", "hashes/s of the machine", "logins to hashes", "refused"),
        "peak RSS MiB",
    )
    rows = [
        (
            f"{row['stack']} ({row['argon2']})",
            f"{row['idle_p50_ms']:.1f} / {row['idle_p99_ms']:.1f}",
            f"{row['storm_p50_ms']:.1f} / {row['storm_p99_ms']:.1f}",
            f"{row['storm_p99_ms'] / row['idle_p99_ms']:.1f}",
            *(row["logins_per_second"], row["hashes_per_second"], row["logins_to_hashes"]),
            int(row["refused"]),
            row["peak_resident_mib"],
        )
        for row in found["rows"]
    ]
    return f"## {found['clients']} clients logging in without pause\n\n{table(head, rows)}"
