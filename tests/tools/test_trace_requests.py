"""tools/trace_requests.py counts the files that a request enters, up to a maximum for each."""

import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "tools" / "trace_requests.py"

MAXIMA = {
    "GET /me, unknown caller": 29,
    "GET /me, cached caller": 21,
    "POST /login": 40,
    "POST /token, refresh": 27,
    "POST /password/forgot, until the mail is sent": 41,
    "DELETE /admin/users/{id}": 40,
}


def run(*texts: str) -> str:
    done = subprocess.run(
        [sys.executable, SCRIPT, *texts], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def counts() -> Mapping[str, int]:
    """The number of files of each request."""
    found = re.findall(r"^(\S.*): (\d+) files$", run(), re.MULTILINE)
    return {name: int(number) for name, number in found}


def test_every_request_has_a_maximum(counts: Mapping[str, int]) -> None:
    assert counts.keys() == MAXIMA.keys()


@pytest.mark.parametrize("name", MAXIMA)
def test_a_request_enters_no_more_files(counts: Mapping[str, int], name: str) -> None:
    assert 5 < counts[name] <= MAXIMA[name]


def test_a_part_of_the_name_selects_a_request_and_files_come_in_order() -> None:
    title, *lines = run("cached").splitlines()
    assert title.startswith("GET /me, cached caller: ")
    files = [line.partition(": ")[0].strip() for line in lines]
    assert len(files) == int(title.split()[-2])
    handler = files.index("web/routes/me.py")
    assert files.index("web/middleware/request.py") < files.index("web/resolver.py") < handler
    assert all(re.fullmatch(r"  [a-z0-9_/]+\.py: [a-z0-9_, ]+", line) for line in lines)
