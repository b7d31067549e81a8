"""The secret that encrypts signing keys: configured, or generated once and kept."""

import os
import stat
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from authapi.errors import ConfigurationError
from authapi.services.keys.secret import prepare_data_dir, read_secret
from authapi.settings import Settings
from tests.servers.process import ServeProcess


def secret(**settings: Any) -> bytes:
    return read_secret(Settings(**settings))


def test_without_a_secret_one_is_generated_and_kept(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    made = secret(data_dir=folder)
    path = folder / "secret"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert len(made) == 43
    assert path.read_bytes() == made + b"\n"
    assert list(folder.iterdir()) == [path]
    assert secret(data_dir=folder) == made
    path.unlink()
    assert secret(data_dir=folder) != made


def test_a_configured_secret_touches_no_file(tmp_path: Path) -> None:
    assert secret(secret="x" * 32, data_dir=tmp_path / "unused") == b"x" * 32
    assert not (tmp_path / "unused").exists()


def test_processes_that_start_together_share_one_secret(tmp_path: Path) -> None:
    code = """
from authapi.services.keys.secret import read_secret
from authapi.settings import Settings
print(read_secret(Settings()).decode())
"""
    folder = tmp_path / "shared"
    environment = {**os.environ, "AUTHAPI_DATA_DIR": str(folder)}
    with ExitStack() as stack:
        started = [
            stack.enter_context(ServeProcess([sys.executable, "-c", code], environment, tmp_path))
            for _ in range(4)
        ]
        ended = {(process.wait(), process.output()) for process in started}
    assert ended == {(0, secret(data_dir=folder).decode() + "\n")}
    assert [path.name for path in folder.iterdir()] == ["secret"]


def test_a_process_that_loses_the_race_reads_the_file_of_the_winner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    winner = "w" * 43
    link = os.link

    def link_after_another(source: Path, target: Path) -> None:
        Path(target).write_text(winner)
        link(source, target)

    monkeypatch.setattr(os, "link", link_after_another)
    assert secret(data_dir=tmp_path) == winner.encode()
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]


@pytest.mark.parametrize("content", [b"", b"\n", b"x" * 31, b"\xff" * 64, b" " * 64], ids=range(5))
def test_a_damaged_file_is_refused_and_not_changed(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "secret").write_bytes(content)
    with pytest.raises(ConfigurationError, match="secret file") as caught:
        secret(data_dir=tmp_path)
    assert "\n" not in str(caught.value)
    assert (tmp_path / "secret").read_bytes() == content


def test_a_folder_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    with pytest.raises(ConfigurationError, match="secret file"):
        secret(data_dir=tmp_path)


def test_a_folder_that_cannot_be_created_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/authapi")):
        with pytest.raises(ConfigurationError, match="data folder") as caught:
            prepare_data_dir(folder)
        assert str(folder) in str(caught.value)


def test_a_folder_that_cannot_be_written_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anywhere
    with pytest.raises(ConfigurationError, match="not writable"):
        prepare_data_dir(tmp_path)


def test_containers_that_start_together_share_one_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each has process id 1. All find no file before the first one links its temporary file.
    count = 16
    monkeypatch.setattr(os, "getpid", lambda: 1)
    together = threading.Barrier(count, timeout=30)
    exists = Path.exists

    def exists_not_yet(path: Path, **options: Any) -> bool:
        found = exists(path, **options)
        if path.name == "secret":
            together.wait()
        return found

    monkeypatch.setattr(Path, "exists", exists_not_yet)
    with ThreadPoolExecutor(count) as pool:
        found = set(pool.map(lambda _: secret(data_dir=tmp_path), range(count)))
    monkeypatch.undo()
    assert found == {secret(data_dir=tmp_path)}
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]


def test_a_container_that_starts_later_keeps_the_linked_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It starts after another one has linked its temporary file, and before that file is deleted.
    monkeypatch.setattr(os, "getpid", lambda: 1)
    link, exists, others = os.link, Path.exists, list[bytes]()

    def another_begins(source: Path, target: Path) -> None:
        link(source, target)
        monkeypatch.setattr(os, "link", link)
        monkeypatch.setattr(Path, "exists", lambda *_, **__: False)
        others.append(secret(data_dir=tmp_path))
        monkeypatch.setattr(Path, "exists", exists)

    monkeypatch.setattr(os, "link", another_begins)
    first = secret(data_dir=tmp_path)
    assert others == [first]
    assert secret(data_dir=tmp_path) == first


@pytest.mark.parametrize("step", ["write", "fsync", "link"])
def test_an_interrupted_creation_leaves_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    # As in a power failure: no file is deleted.
    def cut_off(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", lambda *_, **__: None)
        patch.setattr(
            *{"write": (os, "fdopen"), "fsync": (os, "fsync"), "link": (os, "link")}[step], cut_off
        )
        with pytest.raises(KeyboardInterrupt):
            secret(data_dir=tmp_path)
    assert not (tmp_path / "secret").exists()
    made = secret(data_dir=tmp_path)
    assert len(made) == 43
    assert secret(data_dir=tmp_path) == made


def test_a_symbolic_link_at_a_guessed_name_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("untouched")
    (tmp_path / f"secret.{os.getpid()}").symlink_to(tmp_path / "target")
    assert len(secret(data_dir=tmp_path)) == 43
    assert (tmp_path / "target").read_text() == "untouched"
