"""Known vulnerabilities of other products: each has a test of its number."""

import ast
import re
from pathlib import Path

ROWS = range(1, 67)


def test_every_row_has_a_test() -> None:
    named = set()
    for path in Path(__file__).parents[1].rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                match = re.match(r"test_row_(\d\d)_", node.name)
                if match:
                    named.add(int(match[1]))
    assert sorted(named) == list(ROWS)
