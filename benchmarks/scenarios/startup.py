"""Startup time: `import authapi`, and `authapi serve` until it is ready."""

import subprocess
import sys
from collections.abc import Mapping
from statistics import median
from time import perf_counter
from typing import Any

from benchmarks.bench import Bench
from benchmarks.stacks import authapi
from benchmarks.tables import table


def measure(bench: Bench) -> dict[str, Any]:
    """Measures new processes in each round, on a migrated database."""
    found: dict[str, list[float]] = {"python": [], "import authapi": [], "import fastapi": []}
    found |= {"bare FastAPI": [], "authapi serve": []}
    (bare,), served = authapi.bare(bench), authapi.service(bench, "startup")
    for number in range(bench.options.rounds + 1):  # the first start also writes bytecode
        print(f"startup: round {number} of {bench.options.rounds}", file=sys.stderr)
        taken = {
            "python": _run("pass"),
            "import fastapi": _run("import fastapi"),
            "import authapi": _run("import authapi"),
        }
        for name, stack in (("bare FastAPI", bare), ("authapi serve", served)):
            with bench.running(stack) as server:
                taken[name] = server.seconds_to_ready
        for name, seconds in taken.items():
            found[name] += [seconds] if number else []
    return {
        "seconds": {name: round(median(times), 3) for name, times in found.items()},
        "least": {name: round(min(times), 3) for name, times in found.items()},
    }


def _run(code: str) -> float:
    begun = perf_counter()
    # Without the environment of this process, which may disable bytecode or trace imports.
    subprocess.run([sys.executable, "-c", code], check=True, env={})
    return perf_counter() - begun


def markdown(found: Mapping[str, Any]) -> str:
    """Returns the table."""
    meaning = {
        "python": "an interpreter that does nothing",
        "import fastapi": "an interpreter that imports fastapi",
        "import authapi": "an interpreter that imports authapi",
        "bare FastAPI": "the bare application under uvicorn, until it answers",
        "authapi serve": "authapi serve, until /health/ready answers 200",
    }
    head = ("started", "seconds, median", "seconds, least")
    rows = [(text, found["seconds"][name], found["least"][name]) for name, text in meaning.items()]
    return f"## Starting\n\n{table(head, rows)}"
