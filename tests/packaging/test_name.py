"""The distribution name is `fastapi-authapi`: `authapi` on the index is another project."""

import re
import subprocess
import tomllib
from importlib.metadata import distribution
from pathlib import Path

import pytest

from authapi import create_app
from tests.conftest import SettingsFactory

ROOT = Path(__file__).resolve().parents[2]
NAME = "fastapi-authapi"
_INSTALLERS = r"(?:pip3?|pipx|uv|uvx|poetry|pdm|rye|conda|hatch)"
_OTHER_PROJECT = re.compile(
    # An extra, a pinned version or an argument of an installer with the import name.
    r"(?<![\w./-])authapi\\?\[[a-z]"
    r"|(?<![\w./-])authapi(?:==|~=|>=|<=)\d"
    rf"|\b{_INSTALLERS}\b(?: -{{1,2}}[\w-]+| \w+)* ['\"]?authapi\b(?![./])"
)


def _texts() -> list[Path]:
    found = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    paths = [ROOT / line for line in found.stdout.splitlines()]
    return [path for path in paths if path.is_file() and path != Path(__file__).resolve()]


def test_project_name() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["name"] == NAME
    assert project["scripts"] == {"authapi": "authapi.__main__:main"}
    assert distribution(NAME).metadata["Name"] == NAME


def test_the_api_has_the_version_of_the_project(make_settings: SettingsFactory) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert create_app(make_settings()).openapi()["info"]["version"] == project["version"]


@pytest.mark.parametrize(
    "text",
    [
        "pip install authapi",
        "pip install 'authapi[mail]'",
        "pip install --upgrade authapi",
        "uv add authapi",
        "uvx authapi serve",
        "pipx run authapi",
        "needs the extra authapi[redis]",
        "authapi==0.1.15",
    ],
)
def test_wrong_name_is_detected(text: str) -> None:
    assert _OTHER_PROJECT.search(text)


def test_all_texts_install_the_right_name() -> None:
    wrong = []
    for path in _texts():
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            continue
        wrong += [
            f"{path.relative_to(ROOT)}:{number}: {line.strip()[:120]}"
            for number, line in enumerate(lines, 1)
            if _OTHER_PROJECT.search(line)
        ]
    assert wrong == []
