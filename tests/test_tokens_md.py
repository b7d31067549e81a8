"""docs/tokens.md: its commands, run in order, print the documented output."""

import re
from pathlib import Path

import pytest

from tests.console import run_page
from tests.test_readme import ROOT, comparable, service

__all__ = ["service"]

PATH = ROOT / "docs" / "tokens.md"
_VARYING = (
    (re.compile(r"eyJ[\w.-]+"), "JWT"),
    (re.compile(r"art_[\w.-]+"), "art_..."),
    (re.compile(r'"jti":"[\w-]{43}"'), '"jti":"..."'),
    (re.compile(r'"(exp|iat|auth_time)":\d{10}'), r'"\1":TIME'),
)


def plain(text: str) -> str:
    """Removes the parts of `text` that differ between runs."""
    for pattern, word in _VARYING:
        text = pattern.sub(word, text)
    return comparable(text)


def test_commands_print_the_documented_output(service: str, tmp_path: Path) -> None:
    ran = run_page(PATH.read_text("utf-8"), service, tmp_path)
    for command, expected, output in ran:
        assert plain(output) == plain(expected), command
    assert len(ran) == 17


@pytest.mark.parametrize("name", ["docs/tokens.md", "docs/interop.md"])
def test_links_are_valid(name: str) -> None:
    path = ROOT / name
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), target
