"""Hold requirements/*.txt against pyproject.toml, without asking an index.

A full answer would be to solve everything again, which needs a network and changes with every
release of anything. This finds what people do wrong: a dependency added or raised without
`make lock`, a line edited by hand, an index let in.
"""

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
NAME = r"^([a-z0-9-]+)(?:\[[a-z0-9,-]+\])?=="
PIN = re.compile(NAME + r"([^ ;]+)(?: ; .+)?((?: --hash=sha256:[0-9a-f]{64})+)$")


def problems(requirements: list[str], lock: str) -> Iterator[str]:
    """What is wrong with the text of one lock, a sentence each."""
    # A package may be locked more than once, for different Pythons.
    pins: dict[str, list[str]] = {}
    for line in lock.replace(" \\\n   ", "").splitlines():
        if pin := PIN.match(line):
            pins.setdefault(pin[1], []).append(pin[2])
        elif not line.startswith("#"):
            yield f"not a pinned and hashed package: {line[:60]}"
    for requirement in map(Requirement, requirements):
        versions = pins.get(canonicalize_name(requirement.name), [])
        if not versions:
            yield f"{requirement} is missing"
        elif not any(version in requirement.specifier for version in versions):
            yield f"{requirement} is asked for, {' and '.join(versions)} is locked"


def main() -> int:
    """Print every problem; the exit code says whether there was one."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project, groups = pyproject["project"], pyproject["dependency-groups"]
    extras = project["optional-dependencies"]
    run = (
        project["dependencies"]
        + extras["postgres"]
        + extras["redis"]
        + extras["metrics"]
        + groups["build"]
    )
    # A developer has what the service has: every pin of run.txt is a requirement of dev.txt.
    run_lock = (ROOT / "requirements/run.txt").read_text()
    pinned = re.findall(NAME + r"([^ ;]+)", run_lock, re.MULTILINE)
    dev = run + groups["dev"] + [f"{name}=={version}" for name, version in pinned]

    found = False
    for name, requirements in ("run.txt", run), ("dev.txt", dev):
        for problem in problems(requirements, (ROOT / "requirements" / name).read_text()):
            print(f"requirements/{name}: {problem} (make lock?)", file=sys.stderr)
            found = True
    return int(found)


if __name__ == "__main__":
    sys.exit(main())
