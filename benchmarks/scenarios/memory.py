"""Memory of a cached identity: growth of a process with and of one without the identity cache.

Both processes get the same requests. Growth that both have is not that of the cache.
"""

import sys
from collections.abc import Mapping
from typing import Any

import psycopg

from authapi.settings import Settings
from benchmarks import client, processes, seed
from benchmarks.bench import Bench
from benchmarks.scenarios.cold import cookie_of
from benchmarks.stacks import authapi
from benchmarks.tables import table

WARM_UP = 2000


def measure(bench: Bench) -> dict[str, Any]:
    """Measures the growth with `callers` cached identities, and without the cache."""
    callers = bench.options.callers
    setting = Settings.model_fields.get("identity_cache_size")
    return {
        "callers": callers,
        "default_limit": None if setting is None else setting.default,
        "remembering": _measure_growth(bench, callers, identity_cache_size=WARM_UP + callers),
        "forgetting": _measure_growth(bench, callers, identity_cache_size=0),
    }


def _measure_growth(bench: Bench, callers: int, *, identity_cache_size: int) -> dict[str, float]:
    print(f"memory: AUTHAPI_IDENTITY_CACHE_SIZE={identity_cache_size}", file=sys.stderr)
    name = f"memory_{identity_cache_size}"
    stack = authapi.application(bench, name, identity_cache_size=identity_cache_size)
    with psycopg.connect(stack.environment["AUTHAPI_DATABASE_URL"], autocommit=True) as connection:
        seed.users(connection, 0, WARM_UP + callers)
        seed.sessions(connection, 0, WARM_UP + callers, of_users=WARM_UP + callers)
        connection.execute("vacuum analyze")
    with bench.running(stack) as server:
        _ask(bench, stack.base, range(WARM_UP))
        before = processes.resident_bytes(server.pid)
        _ask(bench, stack.base, range(WARM_UP, WARM_UP + callers))
        after = processes.resident_bytes(server.pid)
    return {
        "before_mib": round(before / 2**20, 1),
        "after_mib": round(after / 2**20, 1),
        "bytes_per_caller": round((after - before) / callers),
    }


def _ask(bench: Bench, base: str, callers: range) -> None:
    wires = [client.request("/guarded", cookie_of(number)) for number in callers]
    answers = client.run(client.each_once(base, wires, connections=bench.options.connections))
    if answers.others:
        raise SystemExit(f"not all callers were authenticated: {answers.others}")


def markdown(found: Mapping[str, Any]) -> str:
    """Returns the table, and the memory per caller."""
    rows = [
        (name, found[name]["before_mib"], found[name]["after_mib"], found[name]["bytes_per_caller"])
        for name in ("remembering", "forgetting")
    ]
    head = ("process", "RSS before MiB", "RSS after MiB", "growth per caller, bytes")
    cost = found["remembering"]["bytes_per_caller"] - found["forgetting"]["bytes_per_caller"]
    limit = found["default_limit"]
    if limit is None:
        said = "This version has no setting for known callers."
    else:
        total = cost * limit / 2**20
        said = (
            f"A known caller costs {cost:,} bytes; the default limit of {limit:,}, {total:.0f} MiB."
        )
    return f"## Memory of {found['callers']:,} known callers\n\n{table(head, rows)}\n\n{said}"
