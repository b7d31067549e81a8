"""Runs wrk, the load generator (Debian package), and parses its output."""

import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROTATE = Path(__file__).parent / "rotate.lua"
_UNITS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}


class RequestsFailed(Exception):
    """A response was not 2xx, so the run has no figure."""


@dataclass(frozen=True, slots=True)
class Load:
    """The result of one run of wrk; times in milliseconds."""

    rate: float
    """Requests per second."""
    requests: int
    p50: float
    p99: float


def load(url: str, callers: Sequence[Mapping[str, str]], *, connections: int, seconds: int) -> Load:
    """Sends requests to `url` without pause, with the headers of each of `callers` in turn.

    Raises RequestsFailed if a response is not 2xx.
    """
    command = ["wrk", "--latency", "-t1", f"-c{connections}", f"-d{seconds}s"]
    command += ["-s", str(ROTATE), url, "--"]
    command += [f"{name}: {value}" for headers in callers for name, value in headers.items()]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for trouble in ("Non-2xx", "Socket errors"):
        if trouble in output:
            raise RequestsFailed(
                next(line.strip() for line in output.splitlines() if trouble in line)
            )
    return Load(
        rate=float(_found(r"Requests/sec:\s+([\d.]+)", output)),
        requests=int(_found(r"(\d+) requests in", output)),
        p50=_milliseconds("50", output),
        p99=_milliseconds("99", output),
    )


def version() -> str:
    """Returns the version of wrk. Raises FileNotFoundError if it is not installed."""
    if shutil.which("wrk") is None:
        raise FileNotFoundError("wrk is not installed: apt-get install wrk")
    # wrk has no option for its version only: -v exits with 1.
    done = subprocess.run(["wrk", "-v"], capture_output=True, text=True, check=False)
    return done.stdout.split(" [")[0].removeprefix("wrk ")


def _milliseconds(percentile: str, output: str) -> float:
    text = _found(rf"^\s+{percentile}%\s+([\d.]+[a-z]+)", output)
    number = text.rstrip("ums")
    return float(number) * _UNITS[text.removeprefix(number)]


def _found(pattern: str, output: str) -> str:
    match = re.search(pattern, output, re.MULTILINE)
    if match is None:
        raise RuntimeError(f"wrk said something else:\n{output}")
    return match[1]
