"""Known vulnerabilities of other products: each has a test of its number, or a reason."""

import ast
import re
from pathlib import Path

ROWS = range(1, 67)

LATER = {
    21: "there is no login by another service yet",
    22: "there is no login by another service yet",
}
"""Rows about features that do not exist yet."""


def test_every_row_has_a_test_or_a_reason() -> None:
    named = set()
    for path in Path(__file__).parents[1].rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                match = re.match(r"test_row_(\d\d)_", node.name)
                if match:
                    named.add(int(match[1]))
    assert sorted(named) == sorted(set(ROWS) - LATER.keys())
