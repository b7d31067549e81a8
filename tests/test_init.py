"""The names that importing applications need, and what is not imported before one is asked for."""

import subprocess
import sys

import pytest

import authapi


@pytest.mark.parametrize("name", authapi.__all__)
def test_each_name_is_there(name: str) -> None:
    namespace: dict[str, object] = {}
    exec(f"from authapi import {name}", namespace)  # what applications write
    assert namespace[name] is getattr(authapi, name)


def test_a_star_brings_all_of_them() -> None:
    namespace: dict[str, object] = {}
    exec("from authapi import *", namespace)  # what applications write
    assert set(authapi.__all__) <= namespace.keys()


def test_a_name_that_is_not_there_is_an_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'current_usr'"):
        _ = authapi.current_usr  # type: ignore[attr-defined]  # as mypy says
    with pytest.raises(ImportError, match="current_usr"):
        exec("from authapi import current_usr", {})  # what applications mistype


@pytest.mark.parametrize("module", ["authapi", "authapi.cli.accounts.users", "authapi.cli.keys"])
def test_a_command_waits_for_no_web_framework(module: str) -> None:
    code = f"import sys, {module}; print(*sorted(name.split('.')[0] for name in sys.modules))"
    found = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60
    ).stdout.split()
    assert {"authapi", "typing"} <= set(found)
    assert not {"fastapi", "starlette", "uvicorn", "httpx"} & set(found)
