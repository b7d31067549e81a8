"""What can be asked of a run, from the command line."""

import argparse
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

SCENARIOS = ("routes", "storm", "grants", "cold", "scale", "memory", "exports", "startup")
ON_POSTGRES = frozenset({"cold", "scale", "memory"})
"""Those that fill a database by COPY."""
STACKS = ("bare", "authapi", "fastapi-users", "crudauth", "express")
SIZES = ((1_000, 1_000), (10_000, 100_000), (100_000, 1_000_000))
FULL = (1_000_000, 10_000_000)


@dataclass(frozen=True, slots=True)
class Options:
    """How one run is done."""

    store: Literal["postgres", "sqlite"]
    only: tuple[str, ...]
    stacks: tuple[str, ...]
    rounds: int
    seconds: int
    connections: int
    accounts: int
    """Different callers, in turn, on each route."""
    cold: int
    """Sessions that each cold round sees for the first time."""
    callers: int
    """Known callers of which the memory is taken."""
    known_callers: int | None
    """AUTHAPI_KNOWN_CALLERS for every authapi but that of `memory`; None leaves the default."""
    sizes: tuple[tuple[int, int], ...]
    """(users, sessions), growing."""
    scratch: Path
    """Keeps the peers' environments between runs."""
    results: Path


def parse(arguments: list[str] | None = None) -> Options:
    """The options given on the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="authapi beside its peers, in one run."
    )
    add = parser.add_argument
    add("--store", choices=("postgres", "sqlite"), default="postgres")
    add("--only", type=_names(SCENARIOS), default=SCENARIOS, help=_among(SCENARIOS))
    add("--stacks", type=_names(STACKS), default=STACKS, help=_among(STACKS))
    add("--rounds", type=int, default=5)
    add("--seconds", type=int, default=3, help="of each measurement")
    add("--connections", type=int, default=16)
    add("--accounts", type=int, default=16, help="different callers of each route")
    add("--cold", type=int, default=2000, help="sessions in a cold round")
    add("--callers", type=int, default=20_000, help="known callers to weigh")
    add("--known-callers", type=int, help="AUTHAPI_KNOWN_CALLERS, other than its default")
    add("--sizes", type=_sizes, default=SIZES, help="users:sessions,... for scale, growing")
    add("--full", action="store_true", help="scale up to 10^6 users and 10^7 sessions")
    add("--scratch", type=Path, default=_scratch(), help="where peers are installed")
    add("--results", type=Path, default=Path(__file__).parent / "results")
    given = parser.parse_args(arguments)
    only = [name for name in given.only if given.store == "postgres" or name not in ON_POSTGRES]
    if not only:
        parser.error(f"{', '.join(given.only)}: only with --store postgres")
    return Options(
        store=given.store,
        only=tuple(only),
        stacks=given.stacks,
        rounds=given.rounds,
        seconds=given.seconds,
        connections=given.connections,
        accounts=given.accounts,
        cold=given.cold,
        callers=given.callers,
        known_callers=given.known_callers,
        sizes=(*given.sizes, FULL) if given.full else given.sizes,
        scratch=given.scratch.absolute(),
        results=given.results.absolute(),
    )


def _among(names: tuple[str, ...]) -> str:
    return "separated by commas, of: " + ", ".join(names)


class _names:  # noqa: N801  # used as a function
    """Some of the known names, in their order."""

    def __init__(self, known: tuple[str, ...]) -> None:
        self._known = known

    def __call__(self, text: str) -> tuple[str, ...]:
        given = text.split(",")
        if unknown := [name for name in given if name not in self._known]:
            raise argparse.ArgumentTypeError(f"there is no {unknown[0]}; {_among(self._known)}")
        return tuple(name for name in self._known if name in given)


def _sizes(text: str) -> tuple[tuple[int, int], ...]:
    pairs = (entry.partition(":") for entry in text.split(","))
    return tuple((int(users), int(sessions)) for users, _, sessions in pairs)


def _scratch() -> Path:
    # With the user's number: the folder of somebody else would be somebody else's programs.
    return Path(tempfile.gettempdir()) / f"authapi-benchmarks-{os.getuid()}"
