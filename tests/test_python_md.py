"""docs/python.md and docs/sync-code.md: their code, run in order, prints the documented output."""

import contextlib
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from authapi import Accounts
from tests.test_readme import ROOT

_BLOCK = re.compile(r"^```(python|output)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def run_blocks(path: Path) -> Iterator[tuple[str, str]]:
    """Runs the code of a page; yields what it has printed, and what the page says."""
    namespace: dict[str, Any] = {"__name__": "page"}
    printed = io.StringIO()
    for kind, text in _BLOCK.findall(path.read_text("utf-8")):
        if kind == "output":
            yield printed.getvalue(), text
            printed = io.StringIO()
            continue
        with contextlib.redirect_stdout(printed):
            exec(compile(text, str(path), "exec"), namespace)  # the page is part of this project
    assert printed.getvalue() == ""


@pytest.mark.parametrize("name", ["python", "sync-code"])
def test_code_prints_the_documented_output(name: str) -> None:
    compared = list(run_blocks(ROOT / "docs" / f"{name}.md"))
    assert len(compared) == 2
    for printed, documented in compared:
        assert printed == documented


@pytest.mark.parametrize("name", ["python", "sync-code"])
def test_links_are_valid(name: str) -> None:
    path = ROOT / "docs" / f"{name}.md"
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), target


def test_the_page_names_every_method() -> None:
    text = (ROOT / "docs" / "python.md").read_text("utf-8")
    for name in vars(Accounts):
        if not name.startswith("_"):
            assert f"`{name}`" in text, name
