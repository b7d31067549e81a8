"""Programs that are not installed with Python, found by name."""

import os
import shutil

import pytest

_PACKAGES = {"caddy": "caddy", "nginx": "nginx-light", "haproxy": "haproxy"}
"""Which Debian package each program comes with."""


def program(name: str) -> str:
    """The path of `name`. Where it is missing, the test fails and says what to install."""
    # Debian puts servers into /usr/sbin, which is not in the PATH of every user.
    places = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
    path = shutil.which(name, path=places)
    if path is None:
        pytest.fail(f"{name} is not installed: apt-get install {_PACKAGES[name]}", pytrace=False)
    return path
