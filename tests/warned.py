"""A program for any Python that has our dependencies: it ends with 0 if nothing of ours warns."""

import os
import subprocess
import sys
from pathlib import Path

SRC = Path(__file__).parents[1] / "src"
IMPORTS = """
from importlib import import_module
from pkgutil import walk_packages

import authapi
from authapi import *
from authapi.testing import client
from authapi.verify import ResourceServer

for module in walk_packages(authapi.__path__, "authapi."):
    if module.name != "authapi.__main__":
        import_module(module.name)
"""
HASHES = """
import warnings

before = list(warnings.filters)
from authapi.crypto.passwords import MARK, Cost, PasswordHash, PasswordHasher
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
        hasher.verify("password", PasswordHash(MARK + text))
    except PasswordMismatch:
        pass
"""


def run(*arguments: str, **more: str) -> None:
    """A Python of its own, in which each warning is an error."""
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": os.environ.get("HOME", "/"),
        "PYTHONPATH": str(SRC),
        "PYTHONWARNINGS": "error",
        "PYTHONDONTWRITEBYTECODE": "1",
        "AUTHAPI_DATA_DIR": "data",
        **more,
    }
    done = subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False
    )
    said = done.stdout + done.stderr
    if done.returncode or "Warning" in said:
        sys.exit(f"{arguments} ended with {done.returncode}:\n{said}")


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
