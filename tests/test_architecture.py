"""What the house promises about its own code, beyond what import-linter checks."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import authapi

PACKAGE = Path(authapi.__file__).parent
TESTS = Path(__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
LONGEST = 400
SUITES: dict[str, dict[str, list[str]]] = tomllib.loads(
    (TESTS / "suites.toml").read_text(encoding="utf-8")
)
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


@cache
def imported(module: Path) -> frozenset[str]:
    """The modules that a file imports, anywhere in it."""
    return frozenset(_imported(module))


def _imported(module: Path) -> Iterator[str]:
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


def modules_and_packages() -> tuple[set[str], set[str]]:
    """The modules and the packages below src/authapi, as paths without .py."""
    paths = [module.relative_to(PACKAGE) for module in MODULES]
    modules = {path.with_suffix("").as_posix() for path in paths if path.name != "__init__.py"}
    packages = {path.parent.as_posix() for path in paths if path.name == "__init__.py"}
    return modules, packages - {"."}


def targets_by_name() -> dict[str, str]:
    """Test modules in the folders that mirror the package, with what they test by their name."""
    _, packages = modules_and_packages()
    folders = {Path(package).parts[0] for package in packages}
    found = {}
    for path in (file.relative_to(TESTS).with_suffix("") for file in TESTS.rglob("test_*.py")):
        if path.parts[0] in folders:
            target = (path.parent / path.stem.removeprefix("test_")).as_posix()
            # `storage/tables/test_tables` tests the package `storage/tables`.
            is_of_folder = path.stem == f"test_{path.parent.name}"
            of_package = is_of_folder and path.parent.as_posix() in packages
            found[path.as_posix()] = path.parent.as_posix() if of_package else target
    return found


def test_tests_are_named_after_what_they_test() -> None:
    """A test module with another name is listed in tests/suites.toml."""
    modules, packages = modules_and_packages()
    named = {test for test, target in targets_by_name().items() if target in {*modules, *packages}}
    assert set(SUITES["suites"]) == targets_by_name().keys() - named


def test_every_module_has_tests() -> None:
    """In the mirrored place, by the tests of its package, or as tests/suites.toml lists."""
    modules, packages = modules_and_packages()
    at_top = {path.stem.removeprefix("test_") for path in TESTS.glob("test_*.py")}
    targets = {*targets_by_name().values()} | at_top
    tested = {
        module
        for module in modules
        if module in targets or Path(module).parent.as_posix() in targets & packages
    }
    assert modules - tested == set(SUITES["covered_elsewhere"])


def test_the_listed_suites_and_modules_exist() -> None:
    modules, packages = modules_and_packages()
    listed = {module for suite in SUITES["suites"].values() for module in suite}
    assert listed - modules - packages == set()
    suites = {suite for found in SUITES["covered_elsewhere"].values() for suite in found}
    assert {suite for suite in suites if not (TESTS / f"{suite}.py").is_file()} == set()


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
        ("jose", ["crypto/jwk.py", "crypto/jws.py", "crypto/signatures/client_assertions.py"]),
        ("jose.jwe", []),
        ("passlib", ["crypto/passwords.py"]),
        ("argon2", []),
        (
            "cryptography",
            [
                "crypto/encryption.py",
                "crypto/factors/challenges.py",
                "crypto/factors/webauthn.py",
                "crypto/jwk.py",
                "crypto/signatures/client_assertions.py",
                "crypto/signatures/detached.py",
                "testing/passkeys.py",  # what an authenticator does, independent of the service
            ],
        ),
        (
            "webauthn",
            ["crypto/factors/webauthn.py"],
        ),
        ("idna", ["domain/email_address.py"]),
        ("email_validator", ["domain/email_address.py"]),
        ("random", []),
        ("pickle", []),
    ],
)
def test_a_package_that_needs_care_has_one_home(package: str, homes: list[str]) -> None:
    assert importers(package) == homes


@pytest.mark.parametrize("package", ["domain", "services"])
def test_an_init_only_imports(package: str) -> None:
    with_code = [
        module
        for module in (PACKAGE / package).rglob("__init__.py")
        for node in ast.parse(module.read_text()).body[1:]  # without the docstring
        if not isinstance(node, ast.ImportFrom)
        and not (isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__")
    ]
    assert names(with_code) == []


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


def test_no_pattern_has_a_possessive_group() -> None:
    # Python 3.11 before 3.11.5 matches other texts with one (cpython gh-106052).
    possessive = re.compile(r"\)(?:[*+?]|\{[0-9,]+\})\+")
    found = [
        f"{path.relative_to(PACKAGE)}:{node.lineno}"
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str | bytes)
        and possessive.search(ast.unparse(node)) is not None
    ]
    assert found == []
