"""docs/command-line.md names every command, and its examples print what it says."""

import re
from pathlib import Path

from tests.cli.test_recorded_events import commands
from tests.console import environment, run_page
from tests.servers.forked import Forking
from tests.test_readme import ROOT

PATH = ROOT / "docs" / "command-line.md"


def test_every_command_is_in_the_table_once() -> None:
    rows = [line.split("|")[1] for line in PATH.read_text("utf-8").splitlines() if line[:2] == "| "]
    named = [name for row in rows for name in re.findall(r"`([a-z -]+)`", row)]
    assert sorted(named) == sorted(commands())


def test_the_examples_print_what_the_page_says(forking: Forking, tmp_path: Path) -> None:
    for name in ("alice", "bob", "carol"):
        create = ("users", "create", f"{name}@example.com")
        made = forking.run(create, environment(tmp_path), tmp_path, "correct horse battery staple")
        assert made.returncode == 0, made.stderr
    ran = run_page(PATH.read_text("utf-8"), "http://127.0.0.1:8000", tmp_path)
    assert len(ran) == 5
    for command, expected, output in ran:
        assert output.strip() == expected.strip(), command


def test_links_are_valid() -> None:
    for target in re.findall(r"\]\(([^)#]+)[)#]", PATH.read_text(encoding="utf-8")):
        assert (PATH.parent / target).exists(), target
