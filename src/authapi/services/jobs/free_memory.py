"""Returns memory that a thread has freed to the operating system.

The allocator of glibc keeps it for the thread: each thread that has hashed a password would occupy
`argon2_memory` for ever. To return it after each hash would cost a third of the hash, for pages
that the next one needs again, so `services/passwords.py` does it when no hash has run for a while.
"""

import ctypes
import sys
from functools import cache
from typing import Any, Final

_TRIM_THRESHOLD: Final = -1
"""The parameter of `mallopt`: bytes of free memory at the end of a heap from which `free` returns
them."""
_LOW, _HIGH = 128 << 10, 64 << 20
"""The first value of glibc, and the highest that it chooses itself for large allocations."""
_PROBE = 100_000
"""Bytes. `free` compares the heap with the threshold only if it frees 64 KiB or more."""


def return_free_memory(*, of_all_heaps: bool) -> None:
    """Returns the free memory at the end of the heap of the calling thread.

    With `of_all_heaps`, also whole free pages between allocations in the heaps of all threads. An
    allocator other than that of glibc is left alone.
    """
    library = _glibc()
    if library is None:
        return
    # `malloc_trim` alone leaves the end of the heap of a thread as it is.
    library.mallopt(_TRIM_THRESHOLD, _LOW)
    library.free(library.malloc(_PROBE))
    library.mallopt(_TRIM_THRESHOLD, _HIGH)
    if of_all_heaps:
        library.malloc_trim(0)


@cache
def _glibc() -> Any:
    """Returns the functions of glibc, or None without it."""
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return None
    library.malloc.argtypes, library.malloc.restype = [ctypes.c_size_t], ctypes.c_void_p
    library.free.argtypes, library.free.restype = [ctypes.c_void_p], None
    library.mallopt.argtypes = [ctypes.c_int, ctypes.c_int]
    library.malloc_trim.argtypes = [ctypes.c_size_t]
    return library
