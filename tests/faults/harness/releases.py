"""Other releases of authapi as folders of sources, which run in the environment of the tests."""

import io
import shutil
import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path

from authapi.storage import migrations
from authapi.storage.schema.revisions import number

PROJECT = Path(__file__).parents[3]
_SOURCES = ("src", "alembic")

_ADDITIVE = '''"""add a nickname, and a device of sessions with its index"""

import sqlalchemy as sa
from alembic import op

from authapi.storage.schema.indexes import build_index, is_repeatable

revision = "{revision}"
down_revision = "{before}"


def upgrade() -> None:
    names, once = op.get_context().opts["table_names"], is_repeatable()
    users, sessions = map(names.table, ("users", "sessions"))
    op.add_column(users, sa.Column("nickname", sa.String(length=40)), if_not_exists=once)
    device = sa.Column("device", sa.String(length=40), server_default="", nullable=False)
    op.add_column(sessions, device, if_not_exists=once)
    build_index(f"ix_{{sessions}}_device", sessions, ["device"])
'''
_REMOVING = '''"""remove the nickname"""

from alembic import op

revision = "{revision}"
down_revision = "{before}"
removes_what_code_before_needs = "{oldest}"


def upgrade() -> None:
    op.drop_column(op.get_context().opts["table_names"].table("users"), "nickname")
'''


def past_release(commit: str, folder: Path) -> Path | None:
    """Writes the sources of a commit to `folder`. Returns it, or None if Git does not have it."""
    try:
        command = ["git", "archive", "--format=tar", commit, *_SOURCES]
        done = subprocess.run(command, cwd=PROJECT, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        # Python 3.11.2 of Debian has no filters.
        archive.extraction_filter = getattr(tarfile, "data_filter", None)
        archive.extractall(folder)
    return folder


def next_release(folder: Path) -> Sequence[str]:
    """Writes this release with two further migrations to `folder`. Returns their revisions.

    The first one adds, so that this release may run beside it. The second one removes.
    """
    for name in _SOURCES:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(PROJECT / name, folder / name, ignore=ignored)
    before = migrations.head()
    own = number(before)
    added, removed = f"{int(own) + 1:04}", f"{int(own) + 2:04}"
    found = (f"{added}_beside_{own}", f"{removed}_beside_{added}")
    for revision, text in zip(found, (_ADDITIVE, _REMOVING), strict=True):
        filled = text.format(revision=revision, before=before, oldest=added)
        (folder / "alembic" / "versions" / f"{revision}.py").write_text(filled, "utf-8")
        before = revision
    return found
