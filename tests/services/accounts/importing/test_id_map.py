"""The file of `--ids-out`: new, private, and on the disk before the commit."""

import errno
import os
import stat
from pathlib import Path
from uuid import UUID

import pytest

from authapi.errors import ConfigurationError
from authapi.services.accounts.importing.id_map import IdMap, require_absent

ONE, TWO = UUID(int=1 << 100), UUID(int=2 << 100)
HEAD = "old_id,new_id\n"


def test_only_the_owner_can_read_the_file(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with IdMap(tmp_path / "map.csv") as id_map:
            mode = (tmp_path / "map.csv").stat().st_mode
            id_map.finish()
    finally:
        os.umask(before)
    assert stat.S_IMODE(mode) == 0o600
    assert (tmp_path / "map.csv").read_text() == HEAD


def test_an_existing_file_is_not_overwritten(tmp_path: Path) -> None:
    path, link = tmp_path / "map.csv", tmp_path / "link.csv"
    path.write_text("ids of before")
    link.symlink_to(tmp_path / "nowhere")
    for existing in (path, link, tmp_path):
        with pytest.raises(ConfigurationError, match="exists: name a new file"):
            IdMap(existing)
        with pytest.raises(ConfigurationError, match="exists"):
            require_absent(existing)
    assert path.read_text() == "ids of before"
    assert not (tmp_path / "nowhere").exists()


def test_a_folder_that_does_not_exist_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"cannot write .*: No such file"):
        IdMap(tmp_path / "none" / "map.csv")
    require_absent(tmp_path / "none" / "map.csv")


def test_a_file_without_rows_is_removed(tmp_path: Path) -> None:
    with IdMap(tmp_path / "map.csv") as id_map:
        id_map.write([])
        id_map.commit()
    assert list(tmp_path.iterdir()) == []


def test_rows_after_the_last_commit_are_replaced(tmp_path: Path) -> None:
    path = tmp_path / "map.csv"
    with IdMap(path) as id_map:
        id_map.write([("a", ONE), ("a long id", TWO)])
        id_map.write([("1", ONE)])
        assert path.read_text() == f"{HEAD}1,{ONE}\n"
        id_map.commit()
        id_map.write([("2", ONE), ("3", ONE)])
        id_map.write([('say "2", please', TWO)])
    assert path.read_text() == f'{HEAD}1,{ONE}\n"say ""2"", please",{TWO}\n'


def test_a_full_disk_leaves_whole_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, write = tmp_path / "map.csv", os.pwrite

    def writes_half(file: int, data: bytes, position: int) -> int:
        if len(data) < 20:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(file, data[: len(data) // 2], position)

    with IdMap(path) as id_map:
        id_map.write([("1", ONE)])
        id_map.commit()
        monkeypatch.setattr(os, "pwrite", writes_half)
        with pytest.raises(ConfigurationError, match="No space left"):
            id_map.write([("2", TWO)])
    assert path.read_text() == f"{HEAD}1,{ONE}\n"
