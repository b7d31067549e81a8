"""Measures what was asked for, and writes it down: `python -m benchmarks --help`."""

import json
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import chdir
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any

from benchmarks import machine, options, report, wrk
from benchmarks.bench import Bench

FORMAT = 1
"""Of the results; those of another are not understood any more, and so not kept."""


def main() -> None:
    """Run the chosen scenarios; what earlier runs found of the others is kept."""
    chosen = options.parse()
    signal.signal(signal.SIGTERM, _end)  # else the servers would stay
    # The others have a client of their own.
    loader = wrk.version() if "routes" in chosen.only else "not used"
    machine_now = {**machine.about(), "wrk": loader}
    stem = "latest" if chosen.store == "postgres" else f"latest-{chosen.store}"
    path = chosen.results / f"{stem}.json"
    found = _kept(path)
    for name in chosen.only:
        measure: Callable[[Bench], Mapping[str, Any]]
        measure = import_module(f"benchmarks.scenarios.{name}").measure
        # Elsewhere, so that no server reads a .env that somebody has in this folder.
        with Bench(chosen) as bench, chdir(bench.folder):
            measured = measure(bench)
        about = {"format": FORMAT, "about": machine_now, "options": _plain(chosen)}
        found[name] = {**about, **measured}
        # After each, so that an end in the middle loses nothing.
        report.write(found, path)
        print(report.section(name, found[name]))


def _end(number: int, _: FrameType | None) -> None:
    sys.exit(128 + number)


def _kept(path: Path) -> dict[str, Any]:
    earlier: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return {name: data for name, data in earlier.items() if data.get("format") == FORMAT}


def _plain(chosen: options.Options) -> dict[str, Any]:
    """Those that change what is measured; the rest are places on somebody's disk."""
    hidden = {"only", "scratch", "results"}
    return {name: value for name, value in asdict(chosen).items() if name not in hidden}


if __name__ == "__main__":
    try:
        main()
    except FileNotFoundError as missing:
        raise SystemExit(f"{missing}; --stacks and --only leave out what needs it") from None
