"""Runs the chosen benchmarks and writes the results: `python -m benchmarks --help`."""

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

FORMATS = dict.fromkeys(options.SCENARIOS, 1) | {"startup": 2}
"""The format of the results of each scenario. Results of another format are discarded."""


def main() -> None:
    """Runs the chosen scenarios. Earlier results of other scenarios are kept."""
    chosen = options.parse()
    signal.signal(signal.SIGTERM, _end)  # otherwise the servers would keep running
    # The other scenarios do not use wrk.
    loader = wrk.version() if "routes" in chosen.only else "not used"
    machine_now = {**machine.describe(), "wrk": loader}
    stem = "latest" if chosen.store == "postgres" else f"latest-{chosen.store}"
    path = chosen.results / f"{stem}.json"
    found = _load_results(path)
    for name in chosen.only:
        measure: Callable[[Bench], Mapping[str, Any]]
        measure = import_module(f"benchmarks.scenarios.{name}").measure
        # In another folder, so that no server reads a .env in this one.
        with Bench(chosen) as bench, chdir(bench.folder):
            measured = measure(bench)
        about = {
            "format": FORMATS[name],
            "about": machine_now,
            "options": _measurement_options(chosen),
        }
        found[name] = {**about, **measured}
        # After each scenario, so that an interrupted run keeps its results.
        report.write(found, path)
        print(report.section(name, found[name]))


def _end(number: int, _: FrameType | None) -> None:
    sys.exit(128 + number)


def _load_results(path: Path) -> dict[str, Any]:
    earlier: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return {name: data for name, data in earlier.items() if data.get("format") == FORMATS.get(name)}


def _measurement_options(chosen: options.Options) -> dict[str, Any]:
    """Returns the options that affect the measurement, without local paths."""
    hidden = {"only", "scratch", "results"}
    return {name: value for name, value in asdict(chosen).items() if name not in hidden}


if __name__ == "__main__":
    try:
        main()
    except FileNotFoundError as missing:
        raise SystemExit(f"{missing}; --stacks and --only leave out what needs it") from None
