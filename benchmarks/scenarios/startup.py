"""Startup: CPU time of commands and imports, and the time of `authapi serve` until it is ready.

CPU time does not depend on other load as much as the time of the clock does, so it decides. `import
authapi` loads its modules only when their names are used, so the import of names that each
application needs is what is compared with the frameworks.
"""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from benchmarks.bench import Bench
from benchmarks.stacks import authapi
from benchmarks.tables import table

HELP = "authapi --help"
IMPORT = "from authapi import AuthAPI, User, current_user"
FRAMEWORKS = "import fastapi, sqlalchemy"
COMMANDS: dict[str, Sequence[str]] = {
    "python": ("-c", "pass"),
    "import fastapi": ("-c", "import fastapi"),
    FRAMEWORKS: ("-c", FRAMEWORKS),
    "import authapi": ("-c", "import authapi"),
    IMPORT: ("-c", IMPORT),
    HELP: ("-m", "authapi", "--help"),
}
"""Arguments of the interpreter, by name."""


def measure(bench: Bench) -> dict[str, Any]:
    """Measures new processes in each round, on a migrated database."""
    cpu: dict[str, list[float]] = {name: [] for name in COMMANDS}
    seconds: dict[str, list[float]] = {"bare FastAPI": [], "authapi serve": []}
    (bare,), served = authapi.bare(bench), authapi.service(bench, "startup")
    # The first round also writes bytecode, and does not count.
    for number in range(bench.options.rounds + 1):
        print(f"startup: round {number} of {bench.options.rounds}", file=sys.stderr)
        names = list(COMMANDS) if number % 2 else list(reversed(COMMANDS))
        taken = {name: cpu_seconds(COMMANDS[name]) for name in names}
        for name, value in taken.items():
            cpu[name] += [value] if number else []
        for name, stack in (("bare FastAPI", bare), ("authapi serve", served)):
            with bench.running(stack) as server:
                seconds[name] += [server.seconds_to_ready] if number else []
    return {
        "cpu": {name: round(median(times), 3) for name, times in cpu.items()},
        "cpu_least": {name: round(min(times), 3) for name, times in cpu.items()},
        "import_over_frameworks": round(
            median(
                ours - theirs for ours, theirs in zip(cpu[IMPORT], cpu[FRAMEWORKS], strict=True)
            ),
            3,
        ),
        "seconds": {name: round(median(times), 3) for name, times in seconds.items()},
        "least": {name: round(min(times), 3) for name, times in seconds.items()},
    }


def cpu_seconds(arguments: Sequence[str]) -> float:
    """Runs this interpreter with `arguments`; returns its CPU time, user and kernel."""
    # Without the environment of this process, which may disable bytecode or trace imports.
    process = subprocess.Popen((sys.executable, *arguments), stdout=subprocess.DEVNULL, env={})
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, process.args)
    return used.ru_utime + used.ru_stime


def markdown(found: Mapping[str, Any]) -> str:
    """Returns the tables."""
    meaning = {
        "python": "an interpreter that does nothing",
        "import fastapi": "an interpreter that imports fastapi",
        FRAMEWORKS: "an interpreter that imports fastapi and sqlalchemy",
        "import authapi": "an interpreter that imports authapi, and uses none of its names",
        IMPORT: "an interpreter that imports AuthAPI, User and current_user of authapi",
        HELP: "`authapi --help`",
    }
    rows = [(text, found["cpu"][name], found["cpu_least"][name]) for name, text in meaning.items()]
    commands = table(("started", "CPU seconds, median", "CPU seconds, least"), rows)
    meaning = {
        "bare FastAPI": "the bare application under uvicorn, until it answers",
        "authapi serve": "authapi serve, until /health/ready answers 200",
    }
    rows = [(text, found["seconds"][name], found["least"][name]) for name, text in meaning.items()]
    servers = table(("started", "seconds, median", "seconds, least"), rows)
    return (
        f"## Starting\n\n{commands}\n\nauthapi over fastapi and sqlalchemy: "
        f"{found['import_over_frameworks']:.3f} s of CPU.\n\n{servers}"
    )
