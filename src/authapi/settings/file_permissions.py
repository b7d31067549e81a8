"""Checks which other users can read the files with secrets."""

import os
import stat
from pathlib import Path
from typing import Literal

Readers = Literal["all users", "its group"]
CHMOD_FIX = {"all users": "chmod o-r", "its group": "chmod g-r"}


def other_readers(path: Path) -> Readers | None:
    """Returns which other users can read this file, None if only the service can.

    Group access is accepted if the service needs it: it is a member of the group, and another user
    owns the file. Kubernetes (fsGroup) and Docker (`gid`) mount secrets like this, with mode 0440.
    A file that the service owns needs no group access. Raises OSError if the file does not exist.
    """
    status = path.stat()
    if status.st_mode & stat.S_IROTH:
        return "all users"
    if not status.st_mode & stat.S_IRGRP:
        return None
    is_member = status.st_gid in {os.getegid(), *os.getgroups()}
    is_foreign = status.st_uid == 0 or status.st_uid != os.geteuid()
    return None if is_member and is_foreign else "its group"
