"""Which other users can read a file with a secret, by its mode, owner and group."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from authapi.settings import other_readers

SERVICE, OTHER, ROOT = 1000, 1001, 0
PRIMARY, SUPPLEMENTARY, FOREIGN = 100, 2000, 3000


@pytest.mark.parametrize(
    ("mode", "owner", "group", "readers"),
    [
        (0o600, SERVICE, PRIMARY, None),
        (0o400, ROOT, ROOT, None),
        (0o604, SERVICE, PRIMARY, "all users"),
        (0o444, ROOT, ROOT, "all users"),
        (0o444, ROOT, SUPPLEMENTARY, "all users"),
        # As with fsGroup of Kubernetes and gid of Docker: the service reads through the group.
        (0o440, ROOT, SUPPLEMENTARY, None),
        (0o640, ROOT, PRIMARY, None),
        (0o440, OTHER, SUPPLEMENTARY, None),
        # The service owns the file, or is not a member of the group.
        (0o640, SERVICE, PRIMARY, "its group"),
        (0o440, SERVICE, SUPPLEMENTARY, "its group"),
        (0o440, ROOT, FOREIGN, "its group"),
        (0o640, OTHER, FOREIGN, "its group"),
    ],
)
def test_other_readers_by_mode_owner_and_group(
    monkeypatch: pytest.MonkeyPatch, mode: int, owner: int, group: int, readers: str | None
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: SERVICE)
    monkeypatch.setattr(os, "getegid", lambda: PRIMARY)
    monkeypatch.setattr(os, "getgroups", lambda: [SUPPLEMENTARY])
    status = SimpleNamespace(st_mode=0o100000 | mode, st_uid=owner, st_gid=group)
    monkeypatch.setattr(Path, "stat", lambda _: status)
    assert other_readers(Path("secret")) == readers


def test_symbolic_links_are_followed(tmp_path: Path) -> None:
    # Kubernetes mounts secrets as symbolic links, whose own mode is always 0777.
    (tmp_path / "data").write_text("x")
    (tmp_path / "data").chmod(0o400)
    (tmp_path / "link").symlink_to(tmp_path / "data")
    assert other_readers(tmp_path / "link") is None
