"""Installs the other projects outside the repository, with pinned versions.

The name of an environment contains a hash of its list, so a changed list gets a new environment.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
PEERS = HERE / "peers.txt"
APPS = HERE / "apps"


def python_of_peers(scratch: Path) -> Path:
    """Returns the interpreter of a virtual environment with the Python projects."""
    folder = _folder(scratch, "python", PEERS.read_bytes() + sys.version.encode())
    python = folder / "bin" / "python"
    if _is_missing(folder):
        print(f"installing the Python peers into {folder}", file=sys.stderr)
        _run(sys.executable, "-m", "venv", "--clear", folder)
        pip = (python, "-m", "pip", "--quiet", "--disable-pip-version-check")
        _run(*pip, "install", "--no-deps", "-r", PEERS)
        _run(*pip, "check")
        _finish(folder)
    return python


def node(scratch: Path, app: str) -> Path:
    """Returns the folder of the Node.js server of `benchmarks/apps/<app>` with its modules.

    Raises FileNotFoundError without Node.js and npm.
    """
    manifest, server = APPS / app / "package.json", APPS / app / "server.js"
    folder = _folder(scratch, app, manifest.read_bytes())
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            raise FileNotFoundError(f"{program} is not installed")
    if _is_missing(folder):
        print(f"installing the packages of {app} into {folder}", file=sys.stderr)
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(manifest, folder)
        # Without a lock file, which would contain the host of the registry. Versions are pinned.
        quiet = ("--silent", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts")
        _run("npm", "install", "--prefix", folder, *quiet)
        _finish(folder)
    shutil.copy(server, folder)  # Node.js searches modules beside the file
    return folder


def _folder(scratch: Path, kind: str, made_from: bytes) -> Path:
    scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
    if scratch.stat().st_uid != os.getuid():
        raise PermissionError(f"{scratch} belongs to another user")
    return scratch / f"{kind}-{hashlib.sha256(made_from).hexdigest()[:12]}"


def _is_missing(folder: Path) -> bool:
    return not (folder / ".complete").exists()


def _finish(folder: Path) -> None:
    (folder / ".complete").touch()


def _run(*command: str | Path) -> None:
    subprocess.run(command, check=True, stdout=sys.stderr)
