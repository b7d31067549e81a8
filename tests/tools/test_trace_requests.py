"""tools/trace_requests.py counts the files that a request enters, up to a maximum for each."""

import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "tools" / "trace_requests.py"

MAXIMA = {
    "GET /me, unknown caller": (23, 11),
    "GET /me, cached caller": (17, 8),
    "POST /login": (40, 17),
    "POST /token, refresh": (24, 12),
    "POST /password/forgot, until the mail is sent": (38, 19),
    "DELETE /admin/users/{id}": (36, 16),
}
"""All files, and those that are not leaves."""


def run(*texts: str) -> str:
    done = subprocess.run(
        [sys.executable, SCRIPT, *texts], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def counts() -> Mapping[str, tuple[int, int]]:
    """The number of files of each request, and of those that are not leaves."""
    found = re.findall(r"^(\S.*): (\d+) files, (\d+) of them leaves$", run(), re.MULTILINE)
    return {name: (int(files), int(files) - int(leaves)) for name, files, leaves in found}


def test_every_request_has_a_maximum(counts: Mapping[str, tuple[int, int]]) -> None:
    assert counts.keys() == MAXIMA.keys()


@pytest.mark.parametrize("name", MAXIMA)
def test_a_request_enters_no_more_files(counts: Mapping[str, tuple[int, int]], name: str) -> None:
    (files, passed), (max_files, max_passed) = counts[name], MAXIMA[name]
    assert 5 < passed < files <= max_files
    assert passed <= max_passed


def test_a_part_of_the_name_selects_a_request_and_files_come_in_order() -> None:
    output = run("cached")
    title, *lines = output.splitlines()
    assert title.startswith("GET /me, cached caller: ")
    files = [line.partition(": ")[0].strip() for line in lines]
    assert title.endswith(f": {len(files)} files, {output.count('(leaf)')} of them leaves")
    handler = files.index("web/routes/me.py")
    assert files.index("web/middleware/request.py") < files.index("web/resolver.py") < handler
    assert all(re.fullmatch(r"  [a-z0-9_/]+\.py( \(leaf\))?: [a-z0-9_, ]+", line) for line in lines)
