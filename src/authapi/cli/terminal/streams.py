"""The standard streams of a process: those that are closed, an encoding with few characters.

`authapi serve` imports this too: it imports neither typer nor rich.
"""

import codecs
import errno
import io
import os
import sys
from pathlib import Path
from typing import Literal

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})


def prepare_streams() -> None:
    """Opens each closed standard stream on the null device, and lets output have any character.

    Python has None for a stream that was closed at the start of the process: reading fails then,
    and `print(file=None)` writes to standard output.
    """
    # In this order, each takes the number of the closed one, and no file can take it later.
    if sys.stdin is None:
        sys.stdin = _null("r")
    if sys.stdout is None:
        sys.stdout = _null("w")
    if sys.stderr is None:
        sys.stderr = _null("w")
    if isinstance(sys.stdout, io.TextIOWrapper):
        # As on standard error: a character that the encoding lacks becomes an escape sequence.
        sys.stdout.reconfigure(errors="backslashreplace")


def writes_utf8() -> bool:
    """Returns whether standard output can have all characters."""
    return codecs.lookup(sys.stdout.encoding or "ascii").name == "utf-8"


def is_full(error: OSError) -> bool:
    """Returns whether an error says that the target of the output takes no more data."""
    return error.errno in _FULL and error.filename is None


def discard_output() -> None:
    """Lets standard output go to the null device: what is left of it would fail at the exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _null(mode: Literal["r", "w"]) -> io.TextIOWrapper:
    file = Path(os.devnull).open(mode, encoding="utf-8")  # noqa: SIM115  # until the process ends
    os.set_inheritable(file.fileno(), True)  # as a standard stream is: workers have it too
    return file


def write_utf8() -> None:
    """Makes standard output UTF-8, for files that do not depend on the locale."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="strict")
