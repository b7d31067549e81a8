"""Who can read a file: by its mode, its owner and its group, and by who we are."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from authapi.settings import readers_of

US, OTHER, ROOT = 1000, 1001, 0
OURS, FSGROUP, FOREIGN = 100, 2000, 3000


@pytest.mark.parametrize(
    ("mode", "owner", "group", "readers"),
    [
        (0o600, US, OURS, None),
        (0o400, ROOT, ROOT, None),
        (0o604, US, OURS, "everybody"),
        (0o444, ROOT, ROOT, "everybody"),
        (0o444, ROOT, FSGROUP, "everybody"),
        # fsGroup of Kubernetes, gid of Docker: the group is there for us.
        (0o440, ROOT, FSGROUP, None),
        (0o640, ROOT, OURS, None),
        (0o440, OTHER, FSGROUP, None),
        # It is not there for us: we do not need it, or are not in it.
        (0o640, US, OURS, "its group"),
        (0o440, US, FSGROUP, "its group"),
        (0o440, ROOT, FOREIGN, "its group"),
        (0o640, OTHER, FOREIGN, "its group"),
    ],
)
def test_who_reads_it(
    monkeypatch: pytest.MonkeyPatch, mode: int, owner: int, group: int, readers: str | None
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: US)
    monkeypatch.setattr(os, "getegid", lambda: OURS)
    monkeypatch.setattr(os, "getgroups", lambda: [FSGROUP])
    found = SimpleNamespace(st_mode=0o100000 | mode, st_uid=owner, st_gid=group)
    monkeypatch.setattr(Path, "stat", lambda _: found)
    assert readers_of(Path("secret")) == readers


def test_a_link_is_what_it_leads_to(tmp_path: Path) -> None:
    # Kubernetes puts links where a secret is mounted; their own mode is always 0777.
    (tmp_path / "data").write_text("x")
    (tmp_path / "data").chmod(0o400)
    (tmp_path / "link").symlink_to(tmp_path / "data")
    assert readers_of(tmp_path / "link") is None
