"""Who, besides the service, can read the files that hold its secrets."""

import os
import stat
from pathlib import Path
from typing import Literal

Readers = Literal["everybody", "its group"]
REMEDY = {"everybody": "chmod o-r", "its group": "chmod g-r"}


def readers_of(path: Path) -> Readers | None:
    """Who else can read this file, None if nobody. Raises OSError.

    Its group may where that is how the service reads it: the service is a member, and the file is
    root's or somebody else's. So come secrets by fsGroup of Kubernetes and by `gid` of Docker, with
    mode 0440. A file of the service's own needs no group to be read.
    """
    found = path.stat()
    if found.st_mode & stat.S_IROTH:
        return "everybody"
    if not found.st_mode & stat.S_IRGRP:
        return None
    is_member = found.st_gid in {os.getegid(), *os.getgroups()}
    is_of_others = found.st_uid == 0 or found.st_uid != os.geteuid()
    return None if is_member and is_of_others else "its group"
