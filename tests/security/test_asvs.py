"""The table of `asvs.py` is honest: whole, and every test that it names is there and talks HTTP."""

import ast
import csv
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from tests.security.asvs import CHAPTERS, TABLE, required

ROOT = Path(__file__).parents[2]
_HTTP = (
    "httpx",
    "authapi.testing",
    "playwright.sync_api",
    "tests.servers.process",
    "tests.strategies.contract",
    "tests.verify.conftest",
    "tests.web.raw",
)
"""Whoever imports none of these sends no request."""

COVERED = [row for row in TABLE if row.status == "covered"]


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(module: ast.Module) -> dict[str, str]:
    """The names that a module takes from others, each with where from."""
    return {
        alias.asname or alias.name: node.module
        for node in ast.walk(module)
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }


def declared_in(path: Path) -> dict[str, ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every test in a file, as name or Class::name, those that classes inherit included."""
    found = {}
    for node in parsed(path).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found[node.name] = node
        elif isinstance(node, ast.ClassDef):
            found |= {f"{node.name}::{key}": item for key, item in methods(path, node).items()}
    return {name: node for name, node in found.items() if name.split("::")[-1].startswith("test_")}


def methods(path: Path, node: ast.ClassDef) -> dict[str, ast.FunctionDef | ast.AsyncFunctionDef]:
    """The methods of a class, with those of the bases that are in our tests."""
    found: dict[str, ast.FunctionDef | ast.AsyncFunctionDef] = {}
    for base in node.bases:
        home = path
        name = base.id if isinstance(base, ast.Name) else ""
        module = imported(parsed(path)).get(name)
        if module is not None:
            home = ROOT / f"{module.replace('.', '/')}.py"
        if home.exists():
            for other in parsed(home).body:
                if isinstance(other, ast.ClassDef) and other.name == name:
                    found |= methods(home, other)
    own = (x for x in node.body if isinstance(x, ast.FunctionDef | ast.AsyncFunctionDef))
    return found | {item.name: item for item in own}


def marks(node: ast.FunctionDef | ast.AsyncFunctionDef) -> set[str]:
    """The names of the pytest marks of a test."""
    return {
        part.attr
        for decorator in node.decorator_list
        for part in ast.walk(decorator)
        if isinstance(part, ast.Attribute)
    }


def test_the_table_has_every_requirement_once() -> None:
    assert Counter(row.id for row in TABLE) == Counter(required().keys())
    assert {row.id: row.level for row in TABLE} == required()
    assert len(TABLE) == 188
    numbers = [tuple(map(int, row.id[1:].split("."))) for row in TABLE]
    assert numbers == sorted(numbers)


def test_the_copy_of_the_standard_is_whole() -> None:
    path = Path(__file__).with_name("asvs5.csv")
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 345
    assert {row["chapter_id"] for row in rows} == {f"V{number}" for number in range(1, 18)}
    assert set(CHAPTERS) <= {row["chapter_id"] for row in rows}
    notice = Path(__file__).with_name("ASVS-LICENSE.md").read_text(encoding="utf-8")
    assert "CC BY-SA 4.0" in notice
    assert "OWASP" in notice


def test_a_row_says_what_its_status_asks_for() -> None:
    for row in TABLE:
        assert bool(row.shown_by) == (row.status == "covered"), row.id
        assert row.status == "covered" or len(row.why) > 15, row.id
        assert len(set(row.shown_by)) == len(row.shown_by), row.id


@pytest.mark.parametrize("row", COVERED, ids=lambda row: row.id)
def test_what_covers_a_row_is_there_and_talks_http(row: object) -> None:
    [found] = [item for item in COVERED if item is row]
    quick = 0
    for name in found.shown_by:
        file, _, test = name.partition("::")
        path = ROOT / file
        assert path.name.startswith("test_"), name
        assert path.exists(), f"{found.id}: there is no {file}"
        assert test in declared_in(path), f"{found.id}: there is no {name}"
        marked = marks(declared_in(path)[test])
        assert not marked & {"skip", "skipif", "xfail"}, name
        modules = set(imported(parsed(path)).values())
        modules |= {
            alias.name
            for node in ast.walk(parsed(path))
            if isinstance(node, ast.Import)
            for alias in node.names
        }
        assert modules & set(_HTTP), f"{name} sends no request"
        text = ast.unparse(parsed(path))
        quick += "pytestmark" not in text and not marked & {"browser", "packaging"}
    assert quick, f"{found.id} is shown by slow tests only"
