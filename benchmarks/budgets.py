"""Checks that no figure of performance is much worse than it was: `make budgets`, a minute or two.

The figures and their margins are in `budgets.toml`. They are ratios of CPU times that are measured
in turn, counts, and sizes of memory: on a machine of another speed, or beside other load, they
hardly change. `make bench` measures requests/s, and compares authapi with other projects.
"""

import signal
import sys
import tomllib
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, chdir
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from types import FrameType
from typing import Literal

import httpx
import psycopg

from benchmarks import batches, client, options, processes, seed
from benchmarks.bench import SETTINGS, Bench, Running
from benchmarks.scenarios.cold import cookie_of
from benchmarks.scenarios.guest import without
from benchmarks.scenarios.startup import COMMANDS, FRAMEWORKS, HELP, IMPORT, cpu_seconds
from benchmarks.scenarios.storm import authapi_login
from benchmarks.stack import EXPECTED, Account, accounts
from benchmarks.stacks import authapi

FILE = Path(__file__).with_suffix(".toml")
CONNECTIONS = 16
BATCHES = 60
ROUTES_SECONDS = 25.0
"""After these, a third of the batches is enough, so that a busy machine also ends in time."""
LOGINS = 200
COLD = 500
REFRESHES = 50
STARTS = 5
ATTEMPTS = 3
"""A figure that is worse than its budget is measured again; the best of these decides."""
REPEAT_UNTIL = 60.0
"""Seconds after the start until which a measurement is repeated."""
STORES = {**SETTINGS, "shared_preload_libraries": "pg_stat_statements"}
KNOWN = {
    "known_session_cookie": "session cookie",
    "known_opaque_token": "opaque token",
    "known_jwt": "JWT",
}
Figures = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Budget:
    """One figure: the value reached, and the share by which it may be worse."""

    name: str
    text: str
    better: Literal["higher", "lower"]
    reached: float
    margin: float

    @property
    def bound(self) -> float:
        """The worst value that passes."""
        sign = -1 if self.better == "higher" else 1
        return self.reached * (1 + sign * self.margin)

    def is_kept(self, value: float) -> bool:
        """Returns whether the value passes."""
        return value >= self.bound if self.better == "higher" else value <= self.bound

    def best(self, first: float, second: float) -> float:
        """Returns the better one of two values."""
        return max(first, second) if self.better == "higher" else min(first, second)

    def line(self, value: float) -> str:
        """Returns the line of the report."""
        word = "at least" if self.better == "higher" else "at most"
        said = "ok    " if self.is_kept(value) else "FAILED"
        note = ""
        if self.best(value, self.reached * 2 - self.bound) == value:
            note = f"; better than the {self.reached:g} of budgets.toml: update it"
        return f"{said} {value:8.3f}  {self.text}: {word} {self.bound:.3f}{note}"


def read(file: Path) -> Sequence[Budget]:
    """Reads the budgets. Raises ValueError if a margin would let a loss of a third pass."""
    with file.open("rb") as stream:
        found = [Budget(name, **values) for name, values in tomllib.load(stream).items()]
    for budget in found:
        if not 0 < budget.margin < 1 / 3:
            raise ValueError(f"{budget.name}: the margin is not between 0 and a third")
    return found


def check(
    budgets: Sequence[Budget], measurements: Sequence[Callable[[], Figures]]
) -> tuple[Figures, Sequence[Budget]]:
    """Measures all figures; returns the values, and the budgets that are not kept.

    A measurement of which a figure fails is repeated, and the better values count: other load makes
    a figure worse, but hardly ever better. Raises ValueError if the budgets and the measurements do
    not have the same figures.
    """
    begun, found = perf_counter(), dict[str, float]()
    by_name = {budget.name: budget for budget in budgets}
    for measure in measurements:
        for _ in range(ATTEMPTS):
            values = measure()
            for name, value in values.items():
                budget = by_name.get(name)
                earlier = found.get(name, value)
                found[name] = value if budget is None else budget.best(earlier, value)
            kept = all(by_name[name].is_kept(found[name]) for name in values if name in by_name)
            if kept or perf_counter() - begun > REPEAT_UNTIL:
                break
    if missing := by_name.keys() ^ found.keys():
        raise ValueError(f"not in both budgets.toml and the measurements: {sorted(missing)}")
    return found, [budget for budget in budgets if not budget.is_kept(found[budget.name])]


def main() -> int:
    """Measures, prints a line for each budget, and returns the exit code."""
    begun, budgets = perf_counter(), read(FILE)
    signal.signal(signal.SIGTERM, _end)  # otherwise the servers would keep running
    with (
        Bench(options.parse([]), STORES) as bench,
        chdir(bench.folder),
        ExitStack() as stack,
    ):
        runs = _Runs(bench, stack)
        found, failed = check(budgets, [runs.memory, runs.routes, runs.statements, _commands])
    for budget in budgets:
        print(budget.line(found[budget.name]))
    kept = len(budgets) - len(failed)
    print(f"{kept} passed, {len(failed)} failed, in {perf_counter() - begun:.0f} s")
    return 1 if failed else 0


def _end(number: int, _: FrameType | None) -> None:
    sys.exit(128 + number)


class _Runs:
    """The measurements that need running servers."""

    def __init__(self, bench: Bench, stack: ExitStack) -> None:
        self._bench, self._stack = bench, stack
        self._number = 0
        self._loads: list[batches.Load] = []

    def memory(self) -> Figures:
        """Resident memory of a new service, and after logins."""
        self._number += 1
        service = authapi.service(self._bench, f"memory_{self._number}")
        # The default is the number of cores, and each hash that runs takes 19 MiB.
        environment = {**service.environment, "AUTHAPI_HASH_CONCURRENCY": "2"}
        with self._bench.running(replace(service, environment=environment)) as server:
            started = _mebibytes(server)
            known = accounts(CONNECTIONS)
            for account in known:
                service.register(server.client, account)
            wires = [authapi_login(known[number % len(known)]) for number in range(LOGINS)]
            client.run(client.bodies(service.base, wires, connections=CONNECTIONS))
            return {"started_mib": started, "logins_mib": _mebibytes(server)}

    def routes(self) -> Figures:
        """CPU of requests, relative to others that are measured in turn."""
        if not self._loads:
            self._loads = list(self._start())
            batches.microseconds(self._loads, connections=CONNECTIONS, batches=10)  # warms up
        bare_me, me, without_it, plain, *known = batches.microseconds(
            self._loads, connections=CONNECTIONS, batches=BATCHES, seconds=ROUTES_SECONDS
        )
        guarded = zip(KNOWN, known, strict=True)
        return {
            "me": batches.ratio(bare_me, me),
            "open_route": batches.ratio(without_it, plain),
            **{name: batches.ratio(plain, used) for name, used in guarded},
        }

    def _start(self) -> Sequence[batches.Load]:
        (account,) = accounts(1)
        (bare,) = authapi.bare(self._bench)
        service = authapi.service(self._bench, "budgets_serve")
        stacks = (bare, service, without("without"), authapi.application(self._bench, "budgets"))
        running = [self._stack.enter_context(self._bench.running(item)) for item in stacks]
        bare_server, served, other, here = running
        headers = _log_in(here, account)
        return [
            _load(bare_server, "/me", {}),
            _load(served, "/me", _log_in(served, account)["session cookie"]),
            batches.Load(other, "/plain", EXPECTED),
            batches.Load(here, "/plain", EXPECTED),
            *(batches.Load(here, "/guarded", EXPECTED, headers[label]) for label in KNOWN.values()),
        ]

    def statements(self) -> Figures:
        """Statements for each of many callers that the service has not seen, and of a refresh."""
        self._number += 1
        stack = authapi.application(self._bench, f"cold_{self._number}")
        with (
            self._bench.running(stack) as running,
            psycopg.connect(stack.environment["AUTHAPI_DATABASE_URL"], autocommit=True) as store,
        ):
            seed.users(store, 0, COLD)
            seed.sessions(store, 0, COLD, of_users=COLD)
            store.execute("create extension pg_stat_statements")
            wires = [client.request("/guarded", cookie_of(number)) for number in range(COLD)]
            warm, cold = wires[:CONNECTIONS], wires[CONNECTIONS:]
            client.run(client.bodies(stack.base, warm, connections=CONNECTIONS))
            before = _calls(store)
            client.run(client.bodies(stack.base, cold, connections=CONNECTIONS))
            # The query of the first count is itself counted in the second.
            used = _calls(store) - before - 1
            token = _refresh_token(running)
            before = _calls(store)
            for _ in range(REFRESHES):
                form = {"grant_type": "refresh_token", "refresh_token": token}
                answer = running.client.post("/token", data=form).raise_for_status()
                token = answer.json()["refresh_token"]
            rotated = _calls(store) - before - 1
        return {
            "cold_statements": used / len(cold),
            "refresh_statements": rotated / REFRESHES,
        }


def _calls(store: psycopg.Connection) -> int:
    rows = store.execute(
        "select calls from pg_stat_statements s join pg_database d on d.oid = s.dbid"
        " where d.datname = current_database()"
    )
    return sum(calls for (calls,) in rows)


def _log_in(server: Running, account: Account) -> Mapping[str, Mapping[str, str]]:
    server.stack.register(server.client, account)
    return server.stack.login(server.client, account)


def _refresh_token(server: Running) -> str:
    (account,) = accounts(1)
    server.stack.register(server.client, account)
    body = {"email": account.email, "password": account.password, "strategy": "jwt"}
    answer = server.client.post("/login", json=body).raise_for_status()
    token: str = answer.json()["refresh_token"]
    return token


def _load(server: Running, path: str, headers: Mapping[str, str]) -> batches.Load:
    server.client.cookies.clear()
    answer: httpx.Response = server.client.get(path, headers=headers).raise_for_status()
    return batches.Load(server, path, answer.content, headers)


def _mebibytes(server: Running) -> float:
    return processes.resident_bytes(server.pid) / 2**20


def _commands() -> Figures:
    """CPU of commands and imports, relative to the import of the frameworks."""
    names = (FRAMEWORKS, HELP, IMPORT)
    found: dict[str, list[float]] = {name: [] for name in names}
    for name in names:
        cpu_seconds(COMMANDS[name])  # writes bytecode
    for _ in range(STARTS):
        for name in names:
            found[name].append(cpu_seconds(COMMANDS[name]))
    return {
        "help": batches.ratio(found[HELP], found[FRAMEWORKS]),
        "names": batches.ratio(found[IMPORT], found[FRAMEWORKS]),
    }


if __name__ == "__main__":
    sys.exit(main())
