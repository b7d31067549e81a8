"""`authapi passwords`: measures password hashing on this machine."""

import time
from collections.abc import Iterator
from typing import Annotated

import typer

from authapi.cli.terminal.options import JSONOption
from authapi.cli.terminal.progress import waiting
from authapi.cli.terminal.tables import print_one
from authapi.crypto.passwords import Cost, PasswordHasher
from authapi.errors import ConfigurationError

app = typer.Typer(help="Password hashing.", no_args_is_help=True)

_MINIMUM = Cost(memory=19456, passes=2, lanes=1)
_ATTEMPTS = 3


@app.command()
def calibrate(
    milliseconds: Annotated[
        int, typer.Option(min=5, max=5000, help="Target time for one hash.")
    ] = 100,
    memory: Annotated[
        int, typer.Option(min=19456, max=1 << 20, help="Largest memory for one hash, in KiB.")
    ] = (262144),
    as_json: JSONOption = False,
) -> None:
    """Propose argon2id parameters for the target time, with as much memory as possible."""
    with waiting("Measuring password hashes"):
        best, duration = _propose(milliseconds / 1000, memory)
    row: dict[str, object] = {
        "AUTHAPI_ARGON2_MEMORY": best.memory,
        "AUTHAPI_ARGON2_PASSES": best.passes,
        "AUTHAPI_ARGON2_LANES": best.lanes,
        "milliseconds": round(duration * 1000, 1),
    }
    print_one(row, as_json=as_json)


def _propose(target: float, memory: int) -> tuple[Cost, float]:
    """Returns the parameters for at most `target` seconds, and the seconds that they take."""
    minimum_time = _measure(_MINIMUM)
    if minimum_time > target:
        raise ConfigurationError(
            f"the minimum parameters take {minimum_time * 1000:.0f} ms here, and less is not safe"
        )
    candidates = [_MINIMUM, *_candidates(memory)]
    # Start with the candidate of the estimated time, then measure down or up from there.
    affordable_work = _work(_MINIMUM) * target / minimum_time
    index = sum(_work(candidate) <= affordable_work for candidate in candidates) - 1
    duration = _measure(candidates[index]) if index else minimum_time
    while duration > target:
        index -= 1
        duration = _measure(candidates[index]) if index else minimum_time
    while (
        index + 1 < len(candidates) and (next_duration := _measure(candidates[index + 1])) <= target
    ):
        index, duration = index + 1, next_duration
    return candidates[index], duration


def _candidates(max_memory: int) -> Iterator[Cost]:
    # Memory makes guessing on GPUs expensive, so passes grow only when memory is at its maximum.
    memory = _MINIMUM.memory
    while memory * 5 // 4 <= max_memory:
        memory = memory * 5 // 4
        yield Cost(memory, _MINIMUM.passes, _MINIMUM.lanes)
    for passes in range(_MINIMUM.passes + 1, 65):
        yield Cost(memory, passes, _MINIMUM.lanes)


def _work(cost: Cost) -> int:
    """Returns a value that is roughly proportional to the time of a hash."""
    return cost.memory * cost.passes


def _measure(cost: Cost) -> float:
    """Returns the seconds for one hash: the fastest of several, to exclude other load."""
    hasher = PasswordHasher(cost)
    times = []
    for _ in range(_ATTEMPTS):
        started_at = time.perf_counter()
        hasher.hash("correct horse battery staple")
        times.append(time.perf_counter() - started_at)
    return min(times)
