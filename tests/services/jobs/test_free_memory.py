"""Memory that threads have freed returns to the operating system."""

import subprocess
import sys

# A thread allocates and frees 24 MiB twice: glibc keeps what it frees the second time.
_PROGRAM = """
import ctypes, threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from authapi.services.jobs.free_memory import return_free_memory

library = ctypes.CDLL(None)
library.malloc.argtypes, library.malloc.restype = [ctypes.c_size_t], ctypes.c_void_p
library.free.argtypes = [ctypes.c_void_p]
SIZE = 24 << 20

def use():
    for _ in range(2):
        memory = library.malloc(SIZE)
        ctypes.memset(memory, 1, SIZE)
        library.free(memory)

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) // 256

with ThreadPoolExecutor(1) as pool:
    found = []
    for _ in range(2):
        pool.submit(use).result()
        found.append(resident())
        pool.submit(return_free_memory, of_all_heaps=False).result()
        found.append(resident())
print(*found)
"""


def test_a_thread_returns_what_it_has_freed() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True, timeout=60
    )
    used, returned, used_again, returned_again = map(int, done.stdout.split())
    assert used - returned >= 20, done.stdout  # MiB
    assert used_again - returned_again >= 20, done.stdout
