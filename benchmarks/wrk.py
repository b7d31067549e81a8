"""wrk, the load generator (Debian's package), and what it says."""

import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROTATE = Path(__file__).parent / "rotate.lua"
_UNITS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}


class Refused(Exception):
    """Not every answer was 2xx, so that there is no figure."""


@dataclass(frozen=True, slots=True)
class Load:
    """What one run of wrk measured; times in milliseconds."""

    rate: float
    """Requests per second."""
    requests: int
    p50: float
    p99: float


def load(url: str, callers: Sequence[Mapping[str, str]], *, connections: int, seconds: int) -> Load:
    """Ask for `url` as often as it is answered, as each of `callers` (their headers) in turn.

    Raises Refused for any answer but 2xx.
    """
    command = ["wrk", "--latency", "-t1", f"-c{connections}", f"-d{seconds}s"]
    command += ["-s", str(ROTATE), url, "--"]
    command += [f"{name}: {value}" for headers in callers for name, value in headers.items()]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for trouble in ("Non-2xx", "Socket errors"):
        if trouble in output:
            raise Refused(next(line.strip() for line in output.splitlines() if trouble in line))
    return Load(
        rate=float(_found(r"Requests/sec:\s+([\d.]+)", output)),
        requests=int(_found(r"(\d+) requests in", output)),
        p50=_milliseconds("50", output),
        p99=_milliseconds("99", output),
    )


def version() -> str:
    """Which wrk there is. Raises FileNotFoundError without one."""
    if shutil.which("wrk") is None:
        raise FileNotFoundError("wrk is not installed: apt-get install wrk")
    # It has no option that only says its version: -v exits with 1.
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
