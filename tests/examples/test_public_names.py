"""The examples import only what an application may import."""

import ast
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PUBLIC = frozenset({"authapi", "authapi.orm", "authapi.testing", "authapi.verify"})
FILES = sorted((ROOT / "examples").rglob("*.py"))


def imports(path: Path) -> Iterator[tuple[str, str | None]]:
    """Yields the modules of authapi that a file imports, each with a name that it takes."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.module or "", alias.name) for alias in node.names)


def test_there_are_examples() -> None:
    assert len(FILES) >= 2


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_an_example_imports_public_names_only(path: Path) -> None:
    used = [found for found in imports(path) if found[0].split(".")[0] == "authapi"]
    assert {module for module, _ in used} <= PUBLIC
    for module, name in used:
        if name is not None:
            assert name in import_module(module).__all__
