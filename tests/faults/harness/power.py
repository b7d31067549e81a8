"""Power loss: the files of a process, without what it has written and not synced.

`Recorder` builds a library that records the writes and the syncs of a process (LD_PRELOAD).
`after_power_loss` builds the files that a disk may have after the power has failed: everything that
was synced, and of each file none, or any, of the writes after its last sync.
"""

import random
import shutil
import struct
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

_SOURCE = Path(__file__).parents[1] / "power" / "recorder.c"
_HEAD = struct.Struct("=cIqQ")
_SECTOR = 512
"""Bytes that a disk writes entirely or not at all."""

Loss = Literal["everything", "anything", "synced too"]
"""What is lost of the writes that were not synced. `synced too` is a disk that ignores syncs: with
it, a test must find losses."""


@dataclass(frozen=True, slots=True)
class _Record:
    kind: Literal["w", "t", "s"]
    name: str
    offset: int
    content: bytes


@dataclass(frozen=True)
class Recorder:
    """A library that records what a process writes below `folder`."""

    library: Path
    folder: Path
    log: Path

    @classmethod
    def build(cls, folder: Path, place: Path) -> "Recorder":
        """Compiles the library in `place`. Raises FileNotFoundError without a C compiler."""
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            raise FileNotFoundError("no C compiler")
        library = place / "recorder.so"
        command = [compiler, "-O1", "-shared", "-fPIC", "-o", str(library), str(_SOURCE)]
        subprocess.run([*command, "-ldl", "-lpthread"], check=True)
        return cls(library, folder, place / "writes")

    @property
    def environment(self) -> Mapping[str, str]:
        return {
            "LD_PRELOAD": str(self.library),
            "RECORDER_FOLDER": str(self.folder),
            "RECORDER_LOG": str(self.log),
        }

    def records(self) -> Iterator[_Record]:
        """What was recorded, without a record that the end of the process has cut off."""
        content, at = self.log.read_bytes(), 0
        while at + _HEAD.size <= len(content):
            kind, name_size, offset, size = _HEAD.unpack_from(content, at)
            start = at + _HEAD.size
            at = start + name_size + (size if kind == b"w" else 0)
            if at > len(content):
                return
            name = content[start : start + name_size].decode()
            yield _Record(kind.decode(), name, offset, content[start + name_size : at])


def after_power_loss(
    recorder: Recorder, before: Path, target: Path, loss: Loss, chance: random.Random
) -> int:
    """Writes the files to `target`; `before` has them as they were when the recording began.

    Returns the number of writes that are lost.
    """
    shutil.copytree(before, target)
    waiting: dict[str, list[_Record]] = {}
    for record in recorder.records():
        if record.kind == "s" and loss != "synced too":
            for done in waiting.pop(record.name, []):
                _carry_out(done, target, recorder.folder)
        elif record.kind != "s":
            waiting.setdefault(record.name, []).append(record)
    lost = 0
    for record in (it for records in waiting.values() for it in records):
        if loss == "anything" and chance.random() < 0.5:
            _carry_out(_torn(record, chance), target, recorder.folder)
        else:
            lost += 1
    return lost


def _torn(record: _Record, chance: random.Random) -> _Record:
    """Half of these writes end after some of their sectors."""
    if chance.random() < 0.5:
        return record
    kept = _SECTOR * chance.randint(0, len(record.content) // _SECTOR)
    return _Record(record.kind, record.name, record.offset, record.content[:kept])


def _carry_out(record: _Record, target: Path, folder: Path) -> None:
    file = target / Path(record.name).relative_to(folder)
    if not file.exists():
        file.touch(0o600)
    with file.open("r+b") as opened:
        if record.kind == "t":
            opened.truncate(record.offset)
        else:
            opened.seek(record.offset)
            opened.write(record.content)
