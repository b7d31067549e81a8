"""The pictures of the pages: that the tool makes them, and that the documentation shows them."""

import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from tools.screenshots import FOLDER, MAX_BYTES, PICTURES

ROOT = Path(__file__).parents[2]
SIZES = {f"{picture.name}.png": picture.size for picture in PICTURES}
_PNG = b"\x89PNG\r\n\x1a\n"
_LINK = re.compile(r"!\[[^\]]+\]\(([^)]+\.png)\)")


def sizes_in(folder: Path) -> dict[str, tuple[int, int]]:
    """The width and the height of each file in a folder, all of which are pictures."""
    found = {}
    for path in folder.iterdir():
        content = path.read_bytes()
        assert content.startswith(_PNG)
        assert 5_000 < len(content) <= MAX_BYTES, path.name
        width, height = struct.unpack(">II", content[16:24])  # IHDR (PNG, section 11.2.1)
        found[path.name] = (width, height)
    return found


@pytest.mark.browser
def test_the_tool_writes_the_pictures(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    command = [sys.executable, str(ROOT / "tools" / "screenshots.py"), str(folder)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert sizes_in(folder) == SIZES
    assert {line.partition(":")[0] for line in run.stdout.splitlines()} == SIZES.keys()


def test_the_pictures_of_the_documentation_are_those_of_the_tool() -> None:
    assert sizes_in(FOLDER) == SIZES


def test_each_picture_is_shown() -> None:
    shown = {
        (path.parent / target).resolve()
        for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"))
        for target in _LINK.findall(path.read_text(encoding="utf-8"))
        if not target.startswith("http")
    }
    assert shown == set(FOLDER.iterdir())
