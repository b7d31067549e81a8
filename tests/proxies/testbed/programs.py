"""Finds programs that pip does not install."""

import os
import shutil

import pytest

_PACKAGES = {"caddy": "caddy", "nginx": "nginx-light", "haproxy": "haproxy"}
"""The Debian package of each program."""


def program(name: str) -> str:
    """Returns the path of `name`. If it is missing, the test fails and names the package."""
    # Debian installs servers in /usr/sbin, which is not in the PATH of every user.
    places = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
    path = shutil.which(name, path=places)
    if path is None:
        pytest.fail(f"{name} is not installed: apt-get install {_PACKAGES[name]}", pytrace=False)
    return path
