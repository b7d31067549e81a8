"""The past failures of others, by their number: each has a test named after it, or a reason."""

import ast
import re
from pathlib import Path

ROWS = range(1, 67)

LATER = {
    21: "there is no login by another service yet",
    22: "there is no login by another service yet",
    24: "there is no second factor yet",
    41: "there is no second factor yet",
    46: "there is no second factor yet",
}
"""Rows about what does not exist yet, and why they say nothing today."""


def test_every_row_is_attacked_or_has_a_reason() -> None:
    named = set()
    for path in Path(__file__).parents[1].rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                match = re.match(r"test_row_(\d\d)_", node.name)
                if match:
                    named.add(int(match[1]))
    assert sorted(named) == sorted(set(ROWS) - LATER.keys())
