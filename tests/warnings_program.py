"""A program that runs authapi with warnings as errors, and exits with 0 if there is none.

It needs only the dependencies of authapi, so any Python version can run it.
"""

import os
import subprocess
import sys
from pathlib import Path

SRC = Path(__file__).parents[1] / "src"
IMPORTS = """
from importlib import import_module
from importlib.util import find_spec
from pkgutil import walk_packages

import authapi
from authapi import *
from authapi.testing import client
from authapi.verify import ResourceServer

FOR_PYTEST = {
    "authapi.pytest_plugin",
    "authapi.testing.authentication_contract",
    "authapi.testing.strategy_contract",
}

for module in walk_packages(authapi.__path__, "authapi."):
    if module.name in FOR_PYTEST and find_spec("pytest") is None:
        continue  # they need the extra `testing`
    if module.name != "authapi.__main__":
        import_module(module.name)
"""
HASHES = """
import warnings

before = list(warnings.filters)
from authapi.crypto.passwords import IMPORTED_PREFIX, Cost, PasswordHash, PasswordHasher
from authapi.errors import PasswordMismatch

assert warnings.filters == before, "filters of the application"
hasher = PasswordHasher(Cost(8, 1, 1))
hasher.verify("password", hasher.hash("password"))
for text in (
    "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$AAAAAAAAAAAAAAAAAAAAAA",
    "$2b$04$......................KnThk3dFhDzIaNk7tLe2Vwk9vXpYm6e",
    "$bcrypt_sha256$$2b$04$......................KnThk3dFhDzIaNk7tLe2Vwk9vXpYm6e"[1:],
    "$pbkdf2$1$c2FsdA$AAAAAAAAAAAAAAAAAAAAAAAAAAA",
    "$pbkdf2-sha256$1$c2FsdA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    "$scrypt$ln=1,r=1,p=1$c2FsdA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
):
    try:
        hasher.verify("password", PasswordHash(IMPORTED_PREFIX + text))
    except PasswordMismatch:
        pass
"""


def run(*arguments: str) -> None:
    """Run Python in a new process, with each warning as an error."""
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": os.environ.get("HOME", "/"),
        "PYTHONPATH": str(SRC),
        "PYTHONWARNINGS": "error",
        "PYTHONDONTWRITEBYTECODE": "1",
        "AUTHAPI_DATA_DIR": "data",
    }
    done = subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False
    )
    output = done.stdout + done.stderr
    if done.returncode or "Warning" in output:
        sys.exit(f"{arguments} exited with {done.returncode}:\n{output}")


if __name__ == "__main__":
    run("-c", IMPORTS)
    run("-c", "from authapi import AuthAPI")
    run("-c", HASHES)
    for command in (
        *(("--help",), ("db", "upgrade"), ("db", "check"), ("config",), ("strategies",)),
        *(("openapi",), ("doctor",), ("users", "list"), ("events", "list"), ("keys", "list")),
        *(("sessions", "prune"), ("mail", "list"), ("webhooks", "list")),
    ):
        run("-m", "authapi", *command)
