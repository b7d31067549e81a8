"""Import of accounts, export of events, and deletion of expired rows, in bulk.

Each is a new process, whose peak of memory is measured with few rows and with many. Beside it, the
same rows are written, read and deleted by hand, in one statement for each table.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, LiteralString

import psycopg

from benchmarks.bench import Bench
from benchmarks.stack import WrongAnswer
from benchmarks.tables import table

FEW = 1_000
"""Rows of the process whose memory is compared."""
STEPS = ("import", "export", "prune")
_IMPORTED = ("authapi_users", "authapi_events")
_DELETE: Sequence[LiteralString] = (
    "DELETE FROM authapi_sessions WHERE expires_at < now() - interval '1 hour'",
    "DELETE FROM authapi_events WHERE at < now() - interval '2 years'",
)

_MEASURED = """
import json, resource, subprocess, sys, time
begun = time.perf_counter()
subprocess.run([sys.executable, *sys.argv[2:]], check=True, stdout=open(sys.argv[1], "wb"))
seconds, used = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
cpu = used.ru_utime + used.ru_stime
print(json.dumps({"seconds": seconds, "cpu": cpu, "mib": used.ru_maxrss / 1024}))
"""
"""Runs Python with the given arguments. A small process does so, because a new process counts the
memory of the one that starts it as its own."""

_PRUNE = """
import asyncio
from authapi.services import Services
from authapi.settings import Settings

async def prune():
    services = Services.build(Settings())
    try:
        print(await services.sessions.prune(), await services.audit.prune())
    finally:
        await services.stop()

asyncio.run(prune())
"""


def measure(bench: Bench) -> dict[str, Any]:
    """Measures each step in each round: authapi with few and with many rows, then by hand."""
    many = bench.options.rows
    found: dict[str, dict[str, list[float]]] = {step: {} for step in STEPS}
    for number in range(1, bench.options.rounds + 1):
        print(f"bulk: round {number} of {bench.options.rounds}", file=sys.stderr)
        few, _ = _authapi(bench, f"bulk_few_{number}", FEW)
        full, copies = _authapi(bench, f"bulk_many_{number}", many)
        by_hand = _by_hand(bench, f"bulk_hand_{number}", copies, many)
        for step in STEPS:
            row = {
                **full[step],
                "by_hand": by_hand[step],
                "to_by_hand": full[step]["seconds"] / by_hand[step],
                "few_mib": few[step]["mib"],
                "mib_to_few": full[step]["mib"] / few[step]["mib"],
            }
            for name, figure in row.items():
                found[step].setdefault(name, []).append(figure)
    rows = [
        {"step": step, **{name: round(median(them), 2) for name, them in found[step].items()}}
        for step in STEPS
    ]
    return {"rows_of_each": many, "rows": rows}


def _authapi(
    bench: Bench, name: str, count: int
) -> tuple[Mapping[str, Mapping[str, float]], Mapping[str, bytes]]:
    """Returns the figures of each step, and the imported rows in the format of COPY."""
    environment = bench.authapi_environment(name)
    lines, output = bench.folder / "users.jsonl", bench.folder / "output"
    with lines.open("w") as file:
        file.writelines(_lines(count))
    command = ("-m", "authapi")
    found = {"import": _run(environment, output, *command, "users", "import", str(lines))}
    found["export"] = _run(environment, output, *command, "events", "export")
    with output.open("rb") as file:
        _require(sum(1 for _ in file), count)
    with closing(psycopg.connect(environment["AUTHAPI_DATABASE_URL"])) as connection, connection:
        copies = {table: _copy_of(connection, table) for table in _IMPORTED}
        _add_expired(connection, count)
    found["prune"] = _run(environment, output, "-c", _PRUNE)
    _require(output.read_text().split(), [str(count)] * 2)
    return found, copies


def _by_hand(
    bench: Bench, name: str, copies: Mapping[str, bytes], count: int
) -> Mapping[str, float]:
    """Returns the seconds of each step."""
    environment = bench.authapi_environment(name)
    found: dict[str, float] = {}
    with closing(psycopg.connect(environment["AUTHAPI_DATABASE_URL"])) as connection:
        with _timed(found, "import"), connection.transaction():
            for imported, data in copies.items():
                with connection.cursor().copy(f"COPY {imported} FROM STDIN") as sink:
                    sink.write(data)
        with _timed(found, "export"):
            newest_first = "SELECT row_to_json(e) FROM authapi_events e ORDER BY id DESC"
            with connection.cursor().copy(f"COPY ({newest_first}) TO STDOUT") as source:
                exported = sum(bytes(block).count(b"\n") for block in source)
        _require(exported, count)
        connection.rollback()
        with connection.transaction():
            _add_expired(connection, count)
        with _timed(found, "prune"), connection.transaction():
            deleted = [connection.execute(statement).rowcount for statement in _DELETE]
        _require(deleted, [count] * 2)
    return found


def _run(environment: Mapping[str, str], output: Path, *arguments: str) -> dict[str, float]:
    """Runs Python; returns its seconds, its seconds of CPU, and the peak of its memory."""
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED, str(output), *arguments],
        env={"PATH": os.environ.get("PATH", os.defpath), **environment},
        check=True,
        stdout=subprocess.PIPE,
    )
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


@contextmanager
def _timed(found: dict[str, float], step: str) -> Iterator[None]:
    begun = perf_counter()
    yield
    found[step] = perf_counter() - begun


def _require(found: object, expected: object) -> None:
    if found != expected:
        raise WrongAnswer(f"bulk: {found} instead of {expected}")


def _lines(count: int) -> Iterator[str]:
    for number in range(count):
        line = {
            "email": f"person{number}@example{number % 50}.com",
            "password_hash": f"pbkdf2_sha256$600000${number:022}${'A' * 43}=",
            "name": f"Person {number}",
            "email_confirmed": True,
            "created_at": "2020-01-31T12:00:00Z",
        }
        yield json.dumps(line) + "\n"


def _copy_of(connection: psycopg.Connection, name: str) -> bytes:
    with connection.cursor().copy(f"COPY {name} TO STDOUT") as source:
        return b"".join(bytes(block) for block in source)


def _add_expired(connection: psycopg.Connection, count: int) -> None:
    """Adds expired sessions with refresh tokens, and old events, of the imported accounts."""
    connection.execute(
        "INSERT INTO authapi_sessions (id, user_id, kind, secret_hash, scopes, created_at,"
        " last_seen_at, expires_at, auth_time, amr, data) SELECT gen_random_uuid(), id, 'token',"
        " sha256(email::bytea), '[]', now(), now(), now() - interval '2 days', now(), '[]', '{}'"
        " FROM authapi_users"
    )
    connection.execute(
        "INSERT INTO authapi_refresh_families (session_id, family_hash, current_hash)"
        " SELECT id, secret_hash, secret_hash FROM authapi_sessions"
    )
    connection.execute(
        "INSERT INTO authapi_events (id, at, type, outcome, user_id, detail, ip, network)"
        " SELECT ('01700000' || lpad(to_hex(n), 24, '0'))::uuid, now() - interval '3 years',"
        " 'login', 'success', gen_random_uuid(), '{}', '192.0.2.1', '192.0.2.1'"
        " FROM generate_series(1, %s) AS n",
        [count],
    )


def markdown(found: Mapping[str, Any]) -> str:
    """Returns the table."""
    names = ("step", "seconds", "cpu", "by_hand", "to_by_hand", "few_mib", "mib", "mib_to_few")
    rows = [tuple(row[name] for name in names) for row in found["rows"]]
    head = (
        *("step", "seconds", "seconds of CPU", "by hand, seconds", "ratio"),
        *(f"peak with {FEW:,}, MiB", "peak, MiB", "ratio"),
    )
    return f"## {found['rows_of_each']:,} rows in bulk\n\n{table(head, rows)}"
