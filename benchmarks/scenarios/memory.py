"""What a known caller costs in memory: many of them, in a process that remembers and in one not.

Both processes answer the same requests; what grows in both is not the memory of callers.
"""

import sys
from collections.abc import Mapping
from typing import Any

import psycopg

from authapi.settings import Settings
from benchmarks import client, processes, seed
from benchmarks.bench import Bench
from benchmarks.scenarios.cold import cookie_of
from benchmarks.stacks import ours
from benchmarks.tables import table

WARM_UP = 2000


def measure(bench: Bench) -> dict[str, Any]:
    """Growth with `callers` remembered, and with none."""
    callers = bench.options.callers
    setting = Settings.model_fields.get("known_callers")
    return {
        "callers": callers,
        "default_limit": None if setting is None else setting.default,
        "remembering": _grown(bench, callers, known_callers=WARM_UP + callers),
        "forgetting": _grown(bench, callers, known_callers=0),
    }


def _grown(bench: Bench, callers: int, *, known_callers: int) -> dict[str, float]:
    print(f"memory: AUTHAPI_KNOWN_CALLERS={known_callers}", file=sys.stderr)
    name = f"memory_{known_callers}"
    stack = ours.application(bench, name, known_callers=known_callers)
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
        raise SystemExit(f"not everybody was known: {answers.others}")


def markdown(found: Mapping[str, Any]) -> str:
    """The table, and the cost of one caller."""
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
