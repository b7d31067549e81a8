"""The public names of `authapi`, and their lazy import."""

import subprocess
import sys

import pytest

import authapi


@pytest.mark.parametrize("name", authapi.__all__)
def test_each_public_name_can_be_imported(name: str) -> None:
    namespace: dict[str, object] = {}
    exec(f"from authapi import {name}", namespace)  # as an application does
    assert namespace[name] is getattr(authapi, name)


def test_star_import_has_all_public_names() -> None:
    namespace: dict[str, object] = {}
    exec("from authapi import *", namespace)  # as an application does
    assert set(authapi.__all__) <= namespace.keys()


def test_an_unknown_name_is_an_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'current_usr'"):
        _ = authapi.current_usr  # type: ignore[attr-defined]  # deliberately wrong
    with pytest.raises(ImportError, match="current_usr"):
        exec("from authapi import current_usr", {})  # a typing error


@pytest.mark.parametrize("module", ["authapi", "authapi.cli.accounts.users", "authapi.cli.keys"])
def test_cli_modules_do_not_import_the_web_framework(module: str) -> None:
    code = f"import sys, {module}; print(*sorted(name.split('.')[0] for name in sys.modules))"
    modules = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60
    ).stdout.split()
    assert {"authapi", "typing"} <= set(modules)
    assert not {"fastapi", "starlette", "uvicorn", "httpx"} & set(modules)
