"""`authapi passwords`: what a hash costs on this machine."""

import time
from collections.abc import Iterator
from typing import Annotated

import typer

from authapi.cli.running import JSONOption, print_one
from authapi.crypto.passwords import Cost, PasswordHasher
from authapi.errors import ConfigurationError

app = typer.Typer(help="Password hashing.", no_args_is_help=True)

_LEAST = Cost(memory=19456, passes=2, lanes=1)
_TRIES = 3


@app.command()
def calibrate(
    milliseconds: Annotated[int, typer.Option(min=5, max=5000, help="Time for one hash.")] = 100,
    memory: Annotated[int, typer.Option(min=19456, max=1 << 20, help="Most KiB for one hash.")] = (
        262144
    ),
    as_json: JSONOption = False,
) -> None:
    """Propose argon2id parameters that take the wanted time, memory first."""
    wanted, least = milliseconds / 1000, _measure(_LEAST)
    if least > wanted:
        raise ConfigurationError(
            f"the least that is accepted takes {least * 1000:.0f} ms here: nothing below it is safe"
        )
    candidates = [_LEAST, *_candidates(memory)]
    # Where the answer should be; it is measured from there on, down or up.
    affordable = _work(_LEAST) * wanted / least
    at = sum(_work(candidate) <= affordable for candidate in candidates) - 1
    took = _measure(candidates[at]) if at else least
    while took > wanted:
        at -= 1
        took = _measure(candidates[at]) if at else least
    while at + 1 < len(candidates) and (more := _measure(candidates[at + 1])) <= wanted:
        at, took = at + 1, more
    best = candidates[at]
    row: dict[str, object] = {
        "AUTHAPI_ARGON2_MEMORY": best.memory,
        "AUTHAPI_ARGON2_PASSES": best.passes,
        "AUTHAPI_ARGON2_LANES": best.lanes,
        "milliseconds": round(took * 1000, 1),
    }
    print_one(row, as_json=as_json)


def _candidates(most: int) -> Iterator[Cost]:
    # Memory is what makes guessing on graphics cards dear; passes only when there is no more of it.
    memory = _LEAST.memory
    while memory * 5 // 4 <= most:
        memory = memory * 5 // 4
        yield Cost(memory, _LEAST.passes, _LEAST.lanes)
    for passes in range(_LEAST.passes + 1, 65):
        yield Cost(memory, passes, _LEAST.lanes)


def _work(cost: Cost) -> int:
    """What the time of a hash is nearly in proportion to."""
    return cost.memory * cost.passes


def _measure(cost: Cost) -> float:
    """Seconds that one hash takes; the least of a few, for the machine does other work too."""
    hasher = PasswordHasher(cost)
    times = []
    for _ in range(_TRIES):
        began = time.perf_counter()
        hasher.hash("correct horse battery staple")
        times.append(time.perf_counter() - began)
    return min(times)
