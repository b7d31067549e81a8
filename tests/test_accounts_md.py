"""docs/accounts.md is true: its commands, one after the other, print what it says."""

import re
import subprocess
import sys
from pathlib import Path

from tests.test_readme import ROOT, blocks, service, steps

__all__ = ["service"]

PATH = ROOT / "docs" / "accounts.md"
_BETWEEN = "--- the next command ---"


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
    printed = done.stdout.split(_BETWEEN)
    for (command, expected), output in zip(found, printed, strict=False):
        assert output.strip() == expected.strip(), command
    assert len(found) == len(printed) - 1 == 16


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", PATH.read_text(encoding="utf-8")):
        assert (PATH.parent / target).exists(), target
