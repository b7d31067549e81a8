"""docs/administration.md: its commands, run in order, print the documented output."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.console import environment, run_page
from tests.servers.process import ServeProcess, free_port
from tests.test_readme import ROOT, comparable

PATH = ROOT / "docs" / "administration.md"
_WHEN = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ")


def variables() -> dict[str, str]:
    """Additional variables of the service and the commands."""
    return {
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
    """Runs a real service; yields its address."""
    port = free_port()
    command = [sys.executable, "-m", "authapi", "serve", "--port", str(port)]
    with ServeProcess(command, environment(tmp_path) | variables(), tmp_path) as server:
        server.wait_ready(f"http://127.0.0.1:{port}/health/ready", timeout=60)
        yield f"http://127.0.0.1:{port}"


def plain(text: str) -> str:
    """Removes the parts of `text` that differ between runs."""
    return comparable(_WHEN.sub("WHEN", text))


@pytest.mark.slow
def test_commands_print_the_documented_output(service: str, tmp_path: Path) -> None:
    ran = run_page(PATH.read_text("utf-8"), service, tmp_path, variables=variables())
    for command, expected, output in ran:
        assert plain(output) == plain(expected), command
    assert len(ran) == 39


def test_links_are_valid() -> None:
    for target in re.findall(r"\]\(([^)#]+)[)#]", PATH.read_text(encoding="utf-8")):
        assert (PATH.parent / target).exists(), target
