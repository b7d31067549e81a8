"""What the house promises about its own code, beyond what import-linter checks."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import authapi

PACKAGE = Path(authapi.__file__).parent
TESTS = Path(__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
LONGEST = 400
NAMES_THAT_MEAN_ANYTHING = {
    *(
        "utils",
        "util",
        "helpers",
        "helper",
        "common",
        "core",
        "manager",
        "managers",
        "misc",
        "base64",
    ),
}


def names(paths: list[Path]) -> list[str]:
    return [str(path.relative_to(PACKAGE)) for path in paths]


def imported(module: Path) -> Iterator[str]:
    """The modules that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def importers(package: str) -> list[str]:
    return names(
        [
            module
            for module in MODULES
            if any(name == package or name.startswith(f"{package}.") for name in imported(module))
        ]
    )


def test_no_module_is_too_long_to_read() -> None:
    assert names([path for path in MODULES if len(path.read_text().splitlines()) > LONGEST]) == []


@pytest.mark.parametrize("folder", [PACKAGE, TESTS], ids=["package", "tests"])
def test_no_module_has_a_name_for_everything(folder: Path) -> None:
    assert [path for path in folder.rglob("*") if path.stem in NAMES_THAT_MEAN_ANYTHING] == []


def test_no_folder_has_more_than_twelve_modules() -> None:
    folders = {module.parent for module in MODULES}
    crowded = [
        folder
        for folder in folders
        if len([path for path in folder.glob("*.py") if path.name != "__init__.py"]) > 12
    ]
    assert crowded == []


def test_only_the_settings_read_the_environment() -> None:
    readers = [
        module
        for module in MODULES
        if any(
            isinstance(node, ast.Attribute)
            and node.attr in {"environ", "environb", "getenv", "putenv"}
            for node in ast.walk(ast.parse(module.read_text()))
        )
        or any(name in {"os.environ", "os.getenv"} for name in imported(module))
    ]
    # `serve` hands what it was told to the processes that it starts, and where they count together.
    assert names(readers) == [
        "cli/serving/serve.py",
        "services/metrics.py",
        "settings/issuer.py",
        "settings/secret_files.py",
    ]


@pytest.mark.parametrize(
    ("package", "homes"),
    [
        ("jose", ["crypto/jwk.py", "crypto/jws.py"]),
        ("jose.jwe", []),
        ("passlib", ["crypto/passwords.py"]),
        ("argon2", []),
        (
            "cryptography",
            ["crypto/detached_signatures.py", "crypto/encryption.py", "crypto/jwk.py"],
        ),
        ("idna", ["services/email_address.py"]),
        ("email_validator", ["services/email_address.py"]),
        ("random", []),
        ("pickle", []),
    ],
)
def test_a_package_that_needs_care_has_one_home(package: str, homes: list[str]) -> None:
    assert importers(package) == homes


def test_only_storage_speaks_sql() -> None:
    for package in ("sqlalchemy", "alembic"):
        assert all(name.startswith("storage/") for name in importers(package))


def test_only_the_clock_reads_the_time() -> None:
    # Ids carry milliseconds of their own; everything else can be moved by one patch.
    readers = [
        module
        for module in MODULES
        if any(
            isinstance(node, ast.Attribute)
            and node.attr in {"now", "utcnow", "today", "time", "time_ns"}
            and isinstance(node.value, ast.Name)
            and node.value.id in {"datetime", "date", "time"}
            for node in ast.walk(ast.parse(module.read_text()))
        )
    ]
    assert names(readers) == ["clock.py", "crypto/ids.py"]


def test_importing_does_nothing(tmp_path: Path) -> None:
    # No setting is read, no file made, no thread begun, before somebody asks for it.
    code = """
import os, threading
before = set(os.listdir())
import authapi
assert set(os.listdir()) == before
assert threading.active_count() == 1
"""
    broken = {"AUTHAPI_PORT": "none", "AUTHAPI_SECRET": "short", "HOME": "/nowhere"}
    done = subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", "-c", code],
        cwd=tmp_path,
        env=broken,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
