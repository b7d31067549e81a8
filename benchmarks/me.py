"""GET /me by each strategy beside a bare FastAPI route of the same body, in one run.

Starts both as one uvicorn process each, lets wrk (Debian's package) load them in turn, checks an
answer of each, and prints a Markdown table with medians and ratios:

    python benchmarks/me.py [--rounds 5] [--seconds 3]

Loopback only; every process that it starts is ended.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx

HERE = Path(__file__).parent
ACCOUNT = {"email": "alice@example.com", "password": "correct horse battery staple"}
CONNECTIONS = 16


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--seconds", type=int, default=3)
    given = options.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        bare = stack.enter_context(served(bare_command(18010), 18010, "/me", folder))
        ours = stack.enter_context(served(our_command(18011), 18011, "/health/ready", folder))
        targets: dict[str, tuple[str, dict[str, str]]] = {"bare route": (bare, {})}
        targets |= {
            f"authapi, {name}": (ours, headers) for name, headers in credentials(ours).items()
        }
        rates: dict[str, list[float]] = {name: [] for name in targets}
        for _ in range(given.rounds):
            for name, (base, headers) in targets.items():
                rates[name].append(load(base + "/me", headers, given.seconds))
    print_table(rates)


def bare_command(port: int) -> list[str]:
    """The yardstick, run as `authapi serve` runs: one process, httptools, no access log."""
    options = ["--http", "httptools", "--no-access-log", "--no-server-header"]
    return [sys.executable, "-m", "uvicorn", "bare:app", "--port", str(port), *options]


def our_command(port: int) -> list[str]:
    """The service with its defaults, on SQLite."""
    return [sys.executable, "-m", "authapi", "serve", "--port", str(port)]


@contextmanager
def served(command: list[str], port: int, path: str, folder: Path) -> Iterator[str]:
    """A server that answers at `path`, ended afterwards."""
    environment = {"PATH": os.environ["PATH"], "AUTHAPI_DATA_DIR": str(folder / "data")}
    process = subprocess.Popen(
        command, cwd=HERE, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    base = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 20
        while True:
            try:
                httpx.get(base + path).raise_for_status()
                break
            except httpx.HTTPError:
                if time.monotonic() > deadline or process.poll() is not None:
                    raise
                time.sleep(0.05)
        yield base
    finally:
        process.terminate()
        process.wait(timeout=10)


def credentials(base: str) -> dict[str, dict[str, str]]:
    """Headers that authenticate one account, by strategy, each tried once."""
    httpx.post(base + "/register", json=ACCOUNT).raise_for_status()
    found: dict[str, dict[str, str]] = {}
    for strategy in ("session", "token", "jwt"):
        answer = httpx.post(base + "/login", json={**ACCOUNT, "strategy": strategy})
        answer.raise_for_status()
        if strategy == "session":
            found[strategy] = {"Cookie": answer.headers["set-cookie"].partition(";")[0]}
        else:
            found[strategy] = {"Authorization": f"Bearer {answer.json()['access_token']}"}
        me = httpx.get(base + "/me", headers=found[strategy])
        if me.status_code != 200 or me.json()["email"] != ACCOUNT["email"]:
            raise SystemExit(f"{strategy}: wrong answer {me.status_code}")
    return found


def load(url: str, headers: dict[str, str], seconds: int) -> float:
    """Requests per second that wrk gets answered, or the end if any answer is not 2xx."""
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", url]
    for name, value in headers.items():
        command += ["-H", f"{name}: {value}"]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in output:
        raise SystemExit(f"{url}: not every answer was 200\n{output}")
    found = re.search(r"Requests/sec:\s+([\d.]+)", output)
    if found is None:
        raise SystemExit(f"wrk said nothing of requests:\n{output}")
    return float(found[1])


def print_table(rates: dict[str, list[float]]) -> None:
    """Medians, and how they stand to the bare route."""
    yardstick = statistics.median(rates["bare route"])
    print("| GET /me | requests/s (median) | least - most | ratio |")
    print("|---|---|---|---|")
    for name, found in rates.items():
        median = statistics.median(found)
        spread = f"{min(found):,.0f} - {max(found):,.0f}"
        print(f"| {name} | {median:,.0f} | {spread} | {median / yardstick:.2f} |")


if __name__ == "__main__":
    main()
