"""Two ways to fill a disk: a small file system, and a limit on the size of files."""

import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_SIZE = 20 << 20


@dataclass(frozen=True)
class Disk:
    """A directory for a database, and functions that fill and free its disk."""

    directory: Path
    fill: Callable[[int], None]
    """Its argument is the id of the process that writes there."""
    free: Callable[[int], None]


@contextmanager
def tmpfs(directory: Path) -> Iterator[Disk]:
    """A file system of 20 MB. Raises PermissionError if this process may not mount."""
    directory.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={_SIZE}", "tmpfs", str(directory)]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        raise PermissionError(done.stderr.decode())
    filler = directory / "filler"

    def fill(_: int) -> None:
        with suppress(OSError), filler.open("wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass

    try:
        yield Disk(directory, fill, lambda _: filler.unlink())
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


@contextmanager
def limited(directory: Path) -> Iterator[Disk]:
    """A directory, and a limit of the process that makes every growth of a file fail."""
    directory.mkdir()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield Disk(
        directory,
        lambda pid: _limit(pid, (0, before[1])),
        lambda pid: _limit(pid, before),
    )


DISKS: tuple[Callable[[Path], AbstractContextManager[Disk]], ...] = (tmpfs, limited)


def _limit(pid: int, limits: tuple[int, int]) -> None:
    resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)
