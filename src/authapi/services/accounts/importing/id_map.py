"""The file of `--ids-out`: the id of each line that was imported, and the id of its account."""

import csv
import io
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Self
from uuid import UUID

from authapi.errors import ConfigurationError

HEADER = ("old_id", "new_id")


def require_absent(path: Path) -> None:
    """Raises ConfigurationError if there is a file at `path`: it may have ids of another import."""
    if os.path.lexists(path):
        raise ConfigurationError(f"{path} exists: name a new file for the ids")


class IdMap:
    """A CSV file with one row for each account that an import adds. Use it in a `with` statement.

    The rows of a batch are on the disk before the transaction of the batch is committed, so that
    the file has every account that exists. After a crash it can have rows of one more batch, whose
    accounts do not exist. The file stays if it has rows or the import finished, and is removed
    otherwise.
    """

    def __init__(self, path: Path) -> None:
        """Creates the file, which only its owner can read.

        Raises ConfigurationError if it exists or cannot be created.
        """
        require_absent(path)
        self._path = path
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            self._file = os.open(path, flags, 0o600)
            self._committed = self._append(0, [HEADER])
            self._sync_folder()
        except OSError as error:
            raise self._failure(error) from None
        self._is_needed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)
        if not self._is_needed:
            self._path.unlink(missing_ok=True)

    def write(self, rows: Iterable[tuple[str, UUID]]) -> None:
        """Replaces the rows after the last `commit` by `rows`, and waits until the disk has them.

        Raises ConfigurationError if the disk is full or fails.
        """
        try:
            texts = [(old, str(new)) for old, new in rows]
            self._is_needed = self._is_needed or bool(texts)
            self._end = self._append(self._committed, texts)
        except OSError as error:
            raise self._failure(error) from None

    def commit(self) -> None:
        """Keeps the written rows: their accounts exist."""
        self._committed = self._end

    def finish(self) -> None:
        """Keeps the file, also if no account was added."""
        self._is_needed = True

    def _append(self, position: int, rows: Iterable[tuple[str, str]]) -> int:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        data = text.getvalue().encode()
        os.ftruncate(self._file, position)
        end = position
        try:
            while data:
                written = os.pwrite(self._file, data, end)
                data, end = data[written:], end + written
            os.fsync(self._file)
        except OSError:
            os.ftruncate(self._file, position)
            raise
        return end

    def _sync_folder(self) -> None:
        # The name of a new file is on the disk only after its folder is.
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _failure(self, error: OSError) -> ConfigurationError:
        return ConfigurationError(f"cannot write {self._path}: {error.strerror}")
