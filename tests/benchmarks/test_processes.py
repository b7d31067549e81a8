"""benchmarks/processes.py and benchmarks/hashes.py: CPU times of real processes."""

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from benchmarks import processes
from benchmarks.hashes import Cost, measure

# Two processes use 0.3 s each. The child has a session of its own, as each process of PostgreSQL.
BURN = """
import os, sys, time

def work():
    while time.process_time() < 0.3:
        pass

read, write = os.pipe()
pid = os.fork()
if pid == 0:
    os.setsid()
    work()
    os.write(write, b"x")
    if sys.argv[1] == "ends":
        os._exit(0)
    time.sleep(600)
work()
os.read(read, 1)
if sys.argv[1] == "ends":
    os.waitpid(pid, 0)
print("done", flush=True)
sys.stdin.read()
os.kill(pid, 9) if sys.argv[1] != "ends" else None
"""


def used_by_family(how: str) -> float:
    command = (sys.executable, "-c", BURN, how)
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout
        assert process.stdin
        assert process.stdout.readline() == "done\n"
        used = processes.family_cpu_seconds(process.pid)
        process.stdin.close()
        return used


@pytest.mark.parametrize("how", ["ends", "continues"])
def test_the_cpu_time_of_children_counts_in_other_groups_and_after_their_end(how: str) -> None:
    assert used_by_family(how) >= 0.56  # the ticks of the kernel are 0.01 s


def test_threads_of_lower_priority_are_told_from_the_others() -> None:
    def work() -> float:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)
        begun = time.thread_time()
        while (used := time.thread_time() - begun) < 0.2:
            pass
        _, low = processes.exact_cpu_seconds_by_priority(os.getpid())
        return low - used

    _, before = processes.exact_cpu_seconds_by_priority(os.getpid())
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(work).result() - before == pytest.approx(0, abs=0.05)


def test_a_hash_of_twice_the_memory_costs_more() -> None:
    small, large = measure(Cost(1024, 1, 1), 0.2), measure(Cost(8192, 1, 1), 0.2)
    assert 0 < small.cpu_ms < large.cpu_ms
