"""ARCHITECTURE.md: its paths exist, and its layers and its order of locks are those of the code."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

from tests.services.locks import ORDER

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "authapi"
TEXT = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
MAX_LINES = 150
_PATH = re.compile(r"`([\w./{},-]+(?:/|\.py|\.md|\.toml))`")


def section(title: str) -> str:
    return TEXT.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def expanded(path: str) -> Iterator[str]:
    """A path for each alternative in `{a,b}`."""
    before, brace, after = path.partition("{")
    if not brace:
        yield path
        return
    names, _, after = after.partition("}")
    for name in names.split(","):
        yield from expanded(before + name + after)


def paths() -> list[str]:
    return sorted({path for found in _PATH.findall(TEXT) for path in expanded(found)})


def test_every_path_exists() -> None:
    found = paths()
    assert [path for path in found if not any((at / path).exists() for at in (PACKAGE, ROOT))] == []
    assert len(found) > 80


def test_every_package_is_named() -> None:
    """A package is named itself, below a package that is, or by some of its modules."""
    packages = {
        path.parent.relative_to(PACKAGE).as_posix() + "/"
        for path in PACKAGE.glob("**/__init__.py")
        if path.parent != PACKAGE
    }
    named = paths()
    assert {
        package
        for package in packages
        if not any(
            path.startswith(package) or (path.endswith("/") and package.startswith(path))
            for path in named
        )
    } == set()


def test_the_layers_are_those_that_import_linter_checks() -> None:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = config["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["id"] == "layers")
    block = section("Layers").partition("```\n")[2].partition("```")[0]
    assert [re.split(r"  +", line)[0] for line in block.splitlines()] == layers


def test_the_locks_are_those_that_the_suite_checks() -> None:
    listed = TEXT.partition("takes its locks in this order:")[2].partition(". A refresh family")[0]
    names = [
        re.split(r"[ (]", part.strip())[0] for part in re.sub(r"\(.*?\)", "", listed).split(",")
    ]
    assert tuple(names) == ORDER


def test_it_is_short() -> None:
    assert len(TEXT.splitlines()) <= MAX_LINES


def test_every_name_of_the_glossary_leads_to_a_module() -> None:
    rows = [line for line in section("Glossary").splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 15
    assert [row for row in rows if not _PATH.search(row)] == []
