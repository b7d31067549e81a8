"""docs/testing.md: its tests pass, run as an adopter would."""

import re
from pathlib import Path

import pytest

from authapi import Settings, pytest_plugin
from tests.test_pytest_plugin import outcome, run_pytest
from tests.test_readme import ROOT, blocks

PATH = ROOT / "docs" / "testing.md"
PAGE = PATH.read_text(encoding="utf-8")


def files() -> dict[str, str]:
    """The blocks of the page that are files, by name."""
    named = {block.partition("\n")[0].removeprefix("# "): block for block in blocks("python", PAGE)}
    return {name: block for name, block in named.items() if name.endswith(".py")}


def write_files(folder: Path) -> None:
    for name, block in files().items():
        (folder / name).write_text(block)


@pytest.mark.parametrize("server", ["sqlite", "postgres"])
def test_the_documented_tests_pass(
    server: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    write_files(tmp_path)
    options = []
    if server == "postgres":
        options = ["--authapi-server", request.getfixturevalue("postgres").admin_url]
    assert outcome(run_pytest(tmp_path, *options)) == "6 passed"


def test_the_application_created_at_import_works(tmp_path: Path) -> None:
    write_files(tmp_path)
    (tmp_path / "shop.py").write_text(f"{files()['shop.py']}\napp = create_app()\n")
    [block] = [block for block in blocks("python", PAGE) if "os.environ.update" in block]
    head = "import pytest\nfrom authapi.testing import CleanDatabase\n"
    (tmp_path / "conftest.py").write_text(head + block)
    only = "test_orders.py::test_a_buyer_logs_in"
    assert outcome(run_pytest(tmp_path, "-p", "no:randomly", only)) == "1 passed"


def test_all_fixtures_and_settings_are_documented() -> None:
    names = {name for name in vars(pytest_plugin) if name.startswith("authapi_")}
    assert names == set(re.findall(r"^\| `(authapi_\w+)` \|", PAGE, re.MULTILINE))
    variables = re.findall(r"AUTHAPI_(\w+)=", PAGE)
    assert {name.lower() for name in variables} <= set(Settings.model_fields)


def test_links_are_valid() -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", PAGE):
        assert (PATH.parent / target).exists(), target
