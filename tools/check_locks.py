"""Checks requirements/*.txt against pyproject.toml, without a package index.

A complete check would resolve all dependencies again, which needs a network and changes with each
release. This finds common mistakes: a dependency that was added or raised without `make lock`, an
edited line, and an index URL.
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
    """Yields one sentence per problem of a lock."""
    # A package may have several pins, for different versions of Python.
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
            yield f"{requirement} is required, {' and '.join(versions)} is locked"


def main() -> int:
    """Prints all problems. Returns 1 if there are any, else 0."""
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
    test = groups["test"]
    own = [item for item in groups["dev"] if isinstance(item, str)]  # others include a group
    # Every pin of run.txt is also a requirement of dev.txt.
    run_lock = (ROOT / "requirements/run.txt").read_text()
    pinned = re.findall(NAME + r"([^ ;]+)", run_lock, re.MULTILINE)
    dev = run + test + own + [f"{name}=={version}" for name, version in pinned]

    has_problems = False
    locks = (
        ("run.txt", run),
        ("dev.txt", dev),
        ("lowest.txt", run + test),
        ("release.txt", groups["release"]),
    )
    for name, requirements in locks:
        for problem in problems(requirements, (ROOT / "requirements" / name).read_text()):
            print(f"requirements/{name}: {problem} (make lock?)", file=sys.stderr)
            has_problems = True
    return int(has_problems)


if __name__ == "__main__":
    sys.exit(main())
