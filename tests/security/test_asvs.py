"""The table in `asvs.toml` is complete, and every test that it names exists and sends HTTP."""

import ast
import csv
from collections import Counter
from functools import cache
from pathlib import Path
from typing import get_args

import pytest

from tests.security.asvs import CHAPTERS, TABLE, Row, Status, required

ROOT = Path(__file__).parents[2]
_HTTP = (
    "httpx",
    "authapi.testing",
    "authapi.testing.strategy_contract",
    "playwright.sync_api",
    "tests.outbound.upstreams.visits",
    "tests.servers.process",
    "tests.verify.conftest",
    "tests.web.asgi",
    "tests.web.federation.visits",
)
"""A module that imports none of these sends no requests."""

COVERED = [row for row in TABLE if row.status == "covered"]


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def imported(module: ast.Module) -> dict[str, str]:
    """Maps each name that a module imports to the module that it comes from."""
    return {
        alias.asname or alias.name: node.module
        for node in ast.walk(module)
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }


@cache
def declared_in(path: Path) -> dict[str, ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every test in a file, as name or Class::name, with inherited ones."""
    found = {}
    for node in parsed(path).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found[node.name] = node
        elif isinstance(node, ast.ClassDef):
            found |= {f"{node.name}::{key}": item for key, item in methods(path, node).items()}
    return {name: node for name, node in found.items() if name.split("::")[-1].startswith("test_")}


def methods(path: Path, node: ast.ClassDef) -> dict[str, ast.FunctionDef | ast.AsyncFunctionDef]:
    """The methods of a class, with those that it inherits from classes of this test suite."""
    found: dict[str, ast.FunctionDef | ast.AsyncFunctionDef] = {}
    for base in node.bases:
        home = path
        name = base.id if isinstance(base, ast.Name) else ""
        module = imported(parsed(path)).get(name)
        if module is not None:
            home = ROOT / f"{module.replace('.', '/')}.py"
            if module.startswith("authapi."):
                home = ROOT / "src" / home.relative_to(ROOT)
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


def test_table_has_every_requirement_once() -> None:
    assert Counter(row.id for row in TABLE) == Counter(required().keys())
    assert {row.id: row.level for row in TABLE} == required()
    assert len(TABLE) == 188
    numbers = [tuple(map(int, row.id[1:].split("."))) for row in TABLE]
    assert numbers == sorted(numbers)


def test_copy_of_the_standard_is_complete() -> None:
    path = Path(__file__).with_name("asvs5.csv")
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 345
    assert {row["chapter_id"] for row in rows} == {f"V{number}" for number in range(1, 18)}
    assert set(CHAPTERS) <= {row["chapter_id"] for row in rows}
    notice = Path(__file__).with_name("ASVS-LICENSE.md").read_text(encoding="utf-8")
    assert "CC BY-SA 4.0" in notice
    assert "OWASP" in notice


def test_each_row_has_what_its_status_requires() -> None:
    for row in TABLE:
        assert row.status in get_args(Status), row.id
        assert isinstance(row.note, str), row.id
        assert bool(row.tests) == (row.status == "covered"), row.id
        assert row.status == "covered" or len(row.note) > 15, row.id
        assert len(set(row.tests)) == len(row.tests), row.id


@pytest.mark.parametrize("row", COVERED, ids=lambda row: row.id)
def test_tests_of_a_covered_row_exist_and_send_http(row: Row) -> None:
    fast = 0
    for name in row.tests:
        file, _, test = name.partition("::")
        path = ROOT / file
        assert path.name.startswith("test_"), name
        assert path.exists(), f"{row.id}: {file} does not exist"
        assert test in declared_in(path), f"{row.id}: {name} does not exist"
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
        fast += "pytestmark" not in text and not marked & {"browser", "packaging"}
    assert fast, f"{row.id} is proved by slow tests only"
