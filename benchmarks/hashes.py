"""Computes password hashes in a process of its own, and prints the CPU time of one.

    python -m benchmarks.hashes MEMORY PASSES LANES SECONDS

It computes as many hashes at once as the machine has cores, in threads, as a service does that is
busy with logins. Output: CPU milliseconds for one hash, and hashes per second.
"""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import perf_counter, process_time

from argon2.low_level import Type, hash_secret_raw


@dataclass(frozen=True, slots=True)
class Cost:
    """The parameters of argon2id; memory in KiB."""

    memory: int
    passes: int
    lanes: int


@dataclass(frozen=True, slots=True)
class Hashing:
    """The hashes of a machine without other load."""

    cpu_ms: float
    """CPU time of one hash."""
    per_second: float


def measure(cost: Cost, seconds: float) -> Hashing:
    """Measures the hashes of `cost` in a new process, for about `seconds`."""
    numbers = (cost.memory, cost.passes, cost.lanes, seconds)
    command = (sys.executable, "-m", __name__, *map(str, numbers))
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=_ENVIRONMENT)
    return Hashing(*map(float, done.stdout.split()))


def _compute(cost: Cost, seconds: float) -> Hashing:
    begun, used = perf_counter(), process_time()

    def work() -> int:
        number = 0
        while perf_counter() - begun < seconds:
            hash_secret_raw(
                *(b"correct horse battery staple", b"0123456789abcdef"),
                time_cost=cost.passes,
                memory_cost=cost.memory,
                parallelism=cost.lanes,
                hash_len=32,
                type=Type.ID,
            )
            number += 1
        return number

    cores = len(os.sched_getaffinity(0))
    with ThreadPoolExecutor(cores) as pool:  # argon2-cffi releases the GIL
        total = sum(future.result() for future in [pool.submit(work) for _ in range(cores)])
    return Hashing((process_time() - used) / total * 1000, total / (perf_counter() - begun))


_ENVIRONMENT = {"PYTHONPATH": os.fspath(__file__).rpartition("/benchmarks/")[0]}

if __name__ == "__main__":
    memory, passes, lanes = map(int, sys.argv[1:4])
    found = _compute(Cost(memory, passes, lanes), float(sys.argv[4]))
    print(found.cpu_ms, found.per_second)
