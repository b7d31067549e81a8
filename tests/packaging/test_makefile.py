"""`make help` explains every target, and no target asks for a file that is not there."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TARGETS = re.findall(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[0].split()


def make(*arguments: str) -> str:
    done = subprocess.run(
        ["make", "--no-print-directory", *arguments],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_make_alone_explains_every_target() -> None:
    explained = re.findall(r"^  make ([a-z-]+) +\S", make(), re.MULTILINE)
    assert sorted(explained) == sorted(TARGETS)
    assert make("help") == make()


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_can_be_made(target: str) -> None:
    assert make("--dry-run", target)
