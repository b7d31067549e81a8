"""docs/tokens.md is true: its commands, one after the other, print what it says."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_readme import ROOT, blocks, comparable, service, steps

__all__ = ["service"]

PATH = ROOT / "docs" / "tokens.md"
_BETWEEN = "--- the next command ---"
_VARYING = (
    (re.compile(r"eyJ[\w.-]+"), "JWT"),
    (re.compile(r"art_[\w.-]+"), "art_..."),
    (re.compile(r'"jti":"[\w-]{43}"'), '"jti":"..."'),
    (re.compile(r'"(exp|iat|auth_time)":\d{10}'), r'"\1":TIME'),
)


def plain(text: str) -> str:
    """`text` without what differs from run to run."""
    for pattern, word in _VARYING:
        text = pattern.sub(word, text)
    return comparable(text)


def test_the_commands_print_what_it_says(service: str, tmp_path: Path) -> None:
    found = [step for text in blocks("console", PATH.read_text("utf-8")) for step in steps(text)]
    script = "".join(f"{command}\nprintf '\\n{_BETWEEN}\\n'\n" for command, _ in found)
    environment = {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "AUTHAPI_DATA_DIR": str(tmp_path / "served"),
    }
    done = subprocess.run(
        ["bash", "-eu"],
        check=False,
        cwd=tmp_path,
        env=environment,
        input=script.replace("http://127.0.0.1:8000", service),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    printed = done.stdout.replace(service, "http://127.0.0.1:8000").split(_BETWEEN)
    for (command, expected), output in zip(found, printed, strict=False):
        assert plain(output) == plain(expected), command
    assert len(found) == len(printed) - 1 == 13


@pytest.mark.parametrize("name", ["docs/tokens.md", "docs/interop.md"])
def test_links_lead_somewhere(name: str) -> None:
    path = ROOT / name
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), target
