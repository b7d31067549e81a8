"""Performance targets, and whether the results meet them."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from benchmarks import control
from benchmarks.scenarios.resident import SERVE
from benchmarks.scenarios.startup import HELP
from benchmarks.tables import table

Found = Mapping[str, Any]
HERE = "authapi in an application"
CREDENTIALS = ("session cookie", "opaque token", "JWT")


class Target(NamedTuple):
    """A figure that must be at least, or at most, `bound`."""

    text: str
    scenario: str
    figure: Callable[[Found], float | None]
    bound: float
    at_least: bool


def _route(stack: str, route: str, key: str) -> Callable[[Found], float | None]:
    """Returns a figure of the first route of this name of a stack."""
    return lambda found: next(
        (
            row.get(key)
            for row in found["rows"]
            if row["stack"].startswith(stack) and row["route"] == route
        ),
        None,
    )


def _least(found: Found, stack: str, key: str) -> float | None:
    figures = [row.get(key) for row in found["rows"] if row["stack"].startswith(stack)]
    guarded = [figure for figure in figures if figure is not None]
    return min(guarded, default=None)


def _of(stack: str, key: str) -> Callable[[Found], float | None]:
    return lambda found: next(
        (row.get(key) for row in found["rows"] if row["stack"] == stack), None
    )


def _storm_to_idle(found: Found) -> float | None:
    row = next((row for row in found["rows"] if row["stack"] == HERE), None)
    return None if row is None else row["storm_p99_ms"] / row["idle_p99_ms"]


def _ahead(label: str) -> Callable[[Found], float | None]:
    """Returns the requests/s of the application, relative to those of the fastest peer."""

    def ratio(found: Found) -> float | None:
        figures = {True: list[float](), False: list[float]()}
        for row in found["rows"]:
            if row["route"] == label and "error" not in row and row["stack"].startswith(HERE):
                figures[True].append(row["requests_per_second"])
            elif row["route"] == label and "error" not in row and row["family"] != "authapi":
                figures[False].append(row["requests_per_second"])
        ours, theirs = figures[True], figures[False]
        return ours[0] / max(theirs) if ours and theirs else None

    return ratio


def _callers_mib(found: Found) -> float | None:
    if found["default_limit"] is None:
        return None
    growth = found["remembering"]["bytes_per_caller"] - found["forgetting"]["bytes_per_caller"]
    return float(growth * found["default_limit"]) / 2**20


def _bulk(key: str, step: str | None = None) -> Callable[[Found], float | None]:
    """Returns a figure of this step, or the highest of all steps, with 100,000 rows."""

    def figure(found: Found) -> float | None:
        if found["rows_of_each"] != 100_000:
            return None
        return max(float(row[key]) for row in found["rows"] if step in (None, row["step"]))

    return figure


TARGETS = (
    *(
        Target(
            f"a known caller, of the same route without authentication: {label}",
            *("routes", _route(HERE, label, "to_own_bare"), 0.90, True),
        )
        for label in CREDENTIALS
    ),
    Target(
        "an open route beside authapi, of the same without authapi",
        *("guest", lambda found: float(found["ratio"]), 0.97, True),
    ),
    Target(
        "GET /me, of a bare FastAPI route of the same bytes, slowest strategy",
        *("routes", lambda found: _least(found, "authapi serve", "to_bare_fastapi"), 1.0, True),
    ),
    *(
        Target(
            f"requests/s to those of the fastest peer: {label}", "routes", _ahead(label), 1, True
        )
        for label in CREDENTIALS
    ),
    Target(
        "a caller for the first time, of the same look-up by hand",
        *("cold", _of(HERE, "to_by_hand"), 0.6, True),
    ),
    Target(
        "refresh: CPU of the service, ms", "grants", _of("authapi", "refresh_cpu_ms"), 0.9, False
    ),
    Target(
        "login besides its hash: CPU of service and PostgreSQL, ms",
        *("grants", _of("authapi", "login_besides_hash_ms"), 4, False),
    ),
    Target(
        "the same, without the CPU of the threads of the hashes in the service, ms",
        *("grants", _of("authapi", "login_besides_threads_ms"), 4, False),
    ),
    Target("login storm: p99 of another route, ms", "storm", _of(HERE, "storm_p99_ms"), 50, False),
    Target("login storm: the same, to idle", "storm", _storm_to_idle, 10, False),
    Target("login storm: logins to hashes", "storm", _of(HERE, "logins_to_hashes"), 0.9, True),
    Target(
        "RSS after logins, refreshes and GET /me, MiB",
        *("resident", _of(SERVE, "after_pages_mib"), 95, False),
    ),
    Target("`authapi --help`, CPU s", "startup", lambda found: found["cpu"][HELP], 0.4, False),
    Target(
        "import of AuthAPI and current_user over FastAPI and SQLAlchemy, CPU s",
        *("startup", lambda found: float(found["import_over_frameworks"]), 0.08, False),
    ),
    Target(
        "`authapi serve` until ready, s",
        *("startup", lambda found: found["seconds"]["authapi serve"], 1.5, False),
    ),
    Target(
        "look-up among the most, p50 to that among the fewest",
        *("scale", lambda found: found["rows"][-1]["p50_to_small"], 1.3, False),
    ),
    Target("known callers up to the default limit, MiB", "memory", _callers_mib, 64, False),
    Target("import of 100,000 accounts, s", "bulk", _bulk("seconds", "import"), 10, False),
    Target("export of 100,000 events, s", "bulk", _bulk("seconds", "export"), 10, False),
    Target("deletion of 200,000 expired rows, s", "bulk", _bulk("seconds", "prune"), 10, False),
    Target("peak of memory of these, to 1,000 rows", "bulk", _bulk("mib_to_few"), 1.1, False),
    Target(
        "a clean database for a test, ms, slower store",
        *("kit", lambda found: max(row["clean_ms"] for row in found["rows"]), 20, False),
    ),
)


def markdown(found: Mapping[str, Found]) -> str:
    """Returns the table of the measured targets."""
    return "## Targets\n\n" + table(("target", "bound", "found", "met"), _rows(found))


def _rows(found: Mapping[str, Found]) -> Iterator[tuple[str, str, float, str]]:
    for target in TARGETS:
        if target.scenario not in found:
            continue
        data = found[target.scenario]
        figure = target.figure(data)
        if figure is not None:
            met = figure >= target.bound if target.at_least else figure <= target.bound
            sign = "at least" if target.at_least else "at most"
            said = "yes" if met else "no"
            if (ratio := data.get("control")) is not None and not control.is_quiet(ratio):
                said += ", on a busy machine"
            yield target.text, f"{sign} {target.bound:g}", figure, said
