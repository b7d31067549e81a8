"""docs/accounts.md: its commands, run in order, print the documented output."""

import re
from pathlib import Path

from tests.console import run_page
from tests.test_readme import ROOT, service

__all__ = ["service"]

PATH = ROOT / "docs" / "accounts.md"


def test_commands_print_the_documented_output(service: str, tmp_path: Path) -> None:
    ran = run_page(PATH.read_text("utf-8"), service, tmp_path)
    for command, expected, output in ran:
        assert output.strip() == expected.strip(), command
    assert len(ran) == 16


def test_links_are_valid() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", PATH.read_text(encoding="utf-8")):
        assert (PATH.parent / target).exists(), target
