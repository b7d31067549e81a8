"""docs/administration.md is true: its commands, one after the other, print what it says."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.process import ServeProcess, free_port
from tests.test_readme import ROOT, blocks, comparable, steps

PATH = ROOT / "docs" / "administration.md"
_BETWEEN = "--- the next command ---"
_WHEN = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ")


def environment(folder: Path) -> dict[str, str]:
    """That of the service and of the commands."""
    return {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "AUTHAPI_DATA_DIR": str(folder / "served"),
        "AUTHAPI_SCOPES": "reports:read=Read reports; reports:write=Write reports",
        "AUTHAPI_ROLES": roles(),
        "LANG": "C.UTF-8",
    }


def roles() -> str:
    """The example of the page."""
    [found] = re.findall(r'`AUTHAPI_ROLES="([^"]+)"`', PATH.read_text("utf-8"))
    return str(found)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[str]:
    """The address of a real service."""
    port = free_port()
    command = [sys.executable, "-m", "authapi", "serve", "--port", str(port)]
    with ServeProcess(command, environment(tmp_path), tmp_path) as server:
        server.wait_ready(f"http://127.0.0.1:{port}/health/ready", timeout=20)
        yield f"http://127.0.0.1:{port}"


def plain(text: str) -> str:
    """`text` without what differs from run to run."""
    return comparable(_WHEN.sub("WHEN", text))


def test_the_commands_print_what_it_says(service: str, tmp_path: Path) -> None:
    found = [step for text in blocks("console", PATH.read_text("utf-8")) for step in steps(text)]
    script = "".join(f"{command}\nprintf '\\n{_BETWEEN}\\n'\n" for command, _ in found)
    done = subprocess.run(
        ["bash", "-eu"],
        check=False,
        cwd=tmp_path,
        env=environment(tmp_path),
        input=script.replace("http://127.0.0.1:8000", service),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    printed = done.stdout.split(_BETWEEN)
    for (command, expected), output in zip(found, printed, strict=False):
        assert plain(output) == plain(expected), command
    assert len(found) == len(printed) - 1 == 27


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)[)#]", PATH.read_text(encoding="utf-8")):
        assert (PATH.parent / target).exists(), target
