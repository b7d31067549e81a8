"""A process with a tenth of a core and 256 MB of memory.

Control groups limit both, in version 2 or 1. Where this user may not create any, the process is
stopped for nine tenths of the time, and its memory is only measured.
"""

import os
import signal
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")
_PERIOD = 100_000
"""Microseconds."""
MEMORY = 256 << 20
SHARE = 0.1
"""Of a core."""


class Starvation(ABC):
    """Limits of one process and its children."""

    name: str
    prefix: Sequence[str] = ()
    """Begins the command of the process."""

    def began(self, pid: int) -> None:  # noqa: B027  # control groups need nothing
        """Tells the id of the process."""

    @abstractmethod
    def relax(self) -> None:
        """Gives the process whole cores again."""

    def killed(self) -> int:
        """How many processes were killed for lack of memory."""
        return 0


class _Groups(Starvation):
    """Control groups: one of version 2, or one for each limit of version 1."""

    def __init__(
        self, name: str, limits: Mapping[Path, Mapping[str, object]], relaxed: tuple[str, object]
    ) -> None:
        self.name, self._relaxed = name, relaxed
        self._folders: list[Path] = []
        try:
            for folder, values in limits.items():
                folder.mkdir()
                self._folders.append(folder)
                for file, value in values.items():
                    # Another file system than that of control groups would create any file.
                    if not (folder / file).exists():
                        raise FileNotFoundError(folder / file)
                    (folder / file).write_text(str(value))
        except OSError:
            self.close()
            raise
        entries = " ".join(f"echo $$ > {folder}/cgroup.procs;" for folder in self._folders)
        self.prefix = ["sh", "-c", f'{entries} exec "$@"', "sh"]

    def relax(self) -> None:
        file, value = self._relaxed
        (self._folders[0] / file).write_text(str(value))

    def killed(self) -> int:
        for name in ("memory.events", "memory.oom_control"):
            file = self._folders[-1] / name
            if file.exists():
                counts = dict(line.split() for line in file.read_text().splitlines())
                return int(counts.get("oom_kill", 0))
        return 0

    def close(self) -> None:
        for folder in self._folders:
            deadline = time.monotonic() + 5
            while time.monotonic() < deadline:  # until its last process has ended
                with suppress(OSError):
                    folder.rmdir()
                    break
                time.sleep(0.02)


class _Interrupted(Starvation):
    """A thread that stops the process, and lets it run for a tenth of each period."""

    name = "SIGSTOP and SIGCONT, memory measured only"

    def __init__(self) -> None:
        self._pid = 0
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def began(self, pid: int) -> None:
        self._pid = pid
        self._thread.start()

    def relax(self) -> None:
        self._is_over.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        period = _PERIOD / 1e6
        with suppress(ProcessLookupError):
            while not self._is_over.is_set():
                os.kill(self._pid, signal.SIGSTOP)
                time.sleep(period * (1 - SHARE))
                os.kill(self._pid, signal.SIGCONT)
                time.sleep(period * SHARE)


@contextmanager
def starving() -> Iterator[Starvation]:
    """The limits, by the first means that works here."""
    folder = f"authapi-tests-{os.getpid()}-{time.monotonic_ns()}"
    quota = int(SHARE * _PERIOD)
    versions = (
        (
            "cgroup v2",
            {
                _ROOT / folder: {
                    "cpu.max": f"{quota} {_PERIOD}",
                    "memory.max": MEMORY,
                }
            },
            ("cpu.max", f"max {_PERIOD}"),
        ),
        (
            "cgroup v1",
            {
                _ROOT / "cpu" / folder: {
                    "cpu.cfs_period_us": _PERIOD,
                    "cpu.cfs_quota_us": quota,
                },
                _ROOT / "memory" / folder: {"memory.limit_in_bytes": MEMORY},
            },
            ("cpu.cfs_quota_us", -1),
        ),
    )
    for name, limits, relaxed in versions:
        try:
            groups = _Groups(name, limits, relaxed)
        except OSError:
            continue
        try:
            yield groups
        finally:
            groups.close()
        return
    interrupted = _Interrupted()
    try:
        yield interrupted
    finally:
        interrupted.relax()
