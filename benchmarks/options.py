"""The command line options of a run."""

import argparse
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

SCENARIOS = (
    *("routes", "guest", "cold", "storm", "grants", "resident", "startup", "scale", "memory"),
    *("exports", "console", "bulk", "kit"),
)
ON_POSTGRES = frozenset({"bulk", "cold", "scale", "memory"})
"""Scenarios that use COPY."""
STACKS = (
    *("bare", "authapi", "fastapi-users", "crudauth", "better-auth-server", "express"),
    "better-auth",
)
SIZES = ((1_000, 1_000), (10_000, 100_000), (100_000, 1_000_000))
FULL = (1_000_000, 10_000_000)


@dataclass(frozen=True, slots=True)
class Options:
    """The options of one run."""

    store: Literal["postgres", "sqlite"]
    only: tuple[str, ...]
    stacks: tuple[str, ...]
    rounds: int
    seconds: int
    connections: int
    accounts: int
    """Different callers of each route, in turn."""
    cold: int
    """New sessions in each round of `cold`."""
    logins: int
    """Logins, refreshes and GET /me before the memory of a process is read in `resident`."""
    callers: int
    """Cached identities whose memory is measured."""
    rows: int
    """Accounts, events and sessions of `bulk`."""
    identity_cache_size: int | None
    """AUTHAPI_IDENTITY_CACHE_SIZE in all scenarios except `memory`; None is the default."""
    sizes: tuple[tuple[int, int], ...]
    """Pairs (users, sessions), ascending."""
    scratch: Path
    """Folder of the environments of other projects, kept between runs."""
    results: Path


def parse(arguments: list[str] | None = None) -> Options:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Benchmarks of authapi and comparable projects."
    )
    add = parser.add_argument
    add("--store", choices=("postgres", "sqlite"), default="postgres")
    add("--only", type=_Choices(SCENARIOS), default=SCENARIOS, help=_choices_text(SCENARIOS))
    add("--stacks", type=_Choices(STACKS), default=STACKS, help=_choices_text(STACKS))
    add("--rounds", type=int, default=9)
    add("--seconds", type=int, default=3, help="duration of each measurement")
    add("--connections", type=int, default=16)
    add("--accounts", type=int, default=16, help="different callers of each route")
    add("--cold", type=int, default=2000, help="sessions in a cold round")
    add("--logins", type=int, default=1000, help="logins of each process in resident")
    add("--callers", type=int, default=20_000, help="cached identities whose memory is measured")
    add("--rows", type=int, default=100_000, help="accounts, events and sessions of bulk")
    add("--identity-cache-size", type=int, help="AUTHAPI_IDENTITY_CACHE_SIZE")
    add("--sizes", type=_sizes, default=SIZES, help="users:sessions,... for scale, ascending")
    add("--full", action="store_true", help="scale up to 10^6 users and 10^7 sessions")
    add("--scratch", type=Path, default=_scratch(), help="folder of the other projects")
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
        logins=given.logins,
        callers=given.callers,
        rows=given.rows,
        identity_cache_size=given.identity_cache_size,
        sizes=(*given.sizes, FULL) if given.full else given.sizes,
        scratch=given.scratch.absolute(),
        results=given.results.absolute(),
    )


def _choices_text(names: tuple[str, ...]) -> str:
    return "comma-separated: " + ", ".join(names)


class _Choices:  # used as a function
    """Parses a comma-separated list of known names, and keeps their order."""

    def __init__(self, known: tuple[str, ...]) -> None:
        self._known = known

    def __call__(self, text: str) -> tuple[str, ...]:
        given = text.split(",")
        if unknown := [name for name in given if name not in self._known]:
            raise argparse.ArgumentTypeError(f"unknown: {unknown[0]}; {_choices_text(self._known)}")
        return tuple(name for name in self._known if name in given)


def _sizes(text: str) -> tuple[tuple[int, int], ...]:
    pairs = (entry.partition(":") for entry in text.split(","))
    return tuple((int(users), int(sessions)) for users, _, sessions in pairs)


def _scratch() -> Path:
    # The name contains the uid, because programs in the folder of another user are not trusted.
    return Path(tempfile.gettempdir()) / f"authapi-benchmarks-{os.getuid()}"
