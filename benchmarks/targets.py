"""Performance targets, and whether the results meet them."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from benchmarks.tables import table

Found = Mapping[str, Any]
HERE = "authapi in an application"


class Target(NamedTuple):
    """A figure that must be at least, or at most, `bound`."""

    text: str
    scenario: str
    figure: Callable[[Found], float | None]
    bound: float
    at_least: bool


def _least(found: Found, stack: str, key: str) -> float | None:
    figures = [row.get(key) for row in found["rows"] if row["stack"].startswith(stack)]
    guarded = [figure for figure in figures if figure is not None]
    return min(guarded, default=None)


def _storm(key: str) -> Callable[[Found], float | None]:
    return lambda found: next((row[key] for row in found["rows"] if row["stack"] == HERE), None)


def _storm_to_idle(found: Found) -> float | None:
    row = next((row for row in found["rows"] if row["stack"] == HERE), None)
    return None if row is None else row["storm_p99_ms"] / row["idle_p99_ms"]


def _callers_mib(found: Found) -> float | None:
    if found["default_limit"] is None:
        return None
    growth = found["remembering"]["bytes_per_caller"] - found["forgetting"]["bytes_per_caller"]
    return float(growth * found["default_limit"]) / 2**20


TARGETS = (
    Target(
        "a known caller, of the same route without authentication, slowest strategy",
        *("routes", lambda found: _least(found, HERE, "to_own_bare"), 0.80, True),
    ),
    Target(
        "GET /me, of a bare FastAPI route of the same body, slowest strategy",
        *("routes", lambda found: _least(found, "authapi serve", "to_bare_fastapi"), 0.65, True),
    ),
    Target(
        "an open route beside authapi, of the same without authapi",
        *("guest", lambda found: float(found["ratio"]), 0.97, True),
    ),
    Target("login storm: logins to hashes", "storm", _storm("logins_to_hashes"), 0.9, True),
    Target("login storm: p99 of a protected route, ms", "storm", _storm("storm_p99_ms"), 50, False),
    Target("login storm: the same, to idle", "storm", _storm_to_idle, 10, False),
    Target(
        "look-up among the most, p50 to that among the fewest",
        *("scale", lambda found: found["rows"][-1]["p50_to_small"], 1.3, False),
    ),
    Target("known callers up to the default limit, MiB", "memory", _callers_mib, 64, False),
    Target(
        "a clean database for a test, ms, slower store",
        *("kit", lambda found: max(row["clean_ms"] for row in found["rows"]), 20, False),
    ),
    Target(
        "`import authapi`, s",
        *("startup", lambda found: found["seconds"]["import authapi"], 0.8, False),
    ),
    Target(
        "`authapi serve` until ready, s",
        *("startup", lambda found: found["seconds"]["authapi serve"], 1.5, False),
    ),
)


def markdown(found: Mapping[str, Found]) -> str:
    """Returns the table of the measured targets."""
    return "## Targets\n\n" + table(("target", "bound", "found", "met"), _rows(found))


def _rows(found: Mapping[str, Found]) -> Iterator[tuple[str, str, float, str]]:
    for target in TARGETS:
        if target.scenario not in found:
            continue
        figure = target.figure(found[target.scenario])
        if figure is not None:
            met = figure >= target.bound if target.at_least else figure <= target.bound
            sign = "at least" if target.at_least else "at most"
            yield target.text, f"{sign} {target.bound:g}", figure, "yes" if met else "no"
