"""tools/release.py builds the same bytes each time, and refuses what is not ready."""

import sys
import tarfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from zipfile import ZipFile

import pytest
from tools import release

AT = int(datetime(2026, 11, 30, 8, 0, tzinfo=UTC).timestamp())


@pytest.fixture(autouse=True)
def _dist(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(release, "DIST", tmp_path / "dist")


@pytest.mark.packaging
def test_two_builds_are_equal(tmp_path: Path) -> None:
    wheel, archive = release.build(tmp_path, AT)
    assert wheel.suffix == ".whl"
    assert archive.name.endswith(".tar.gz")
    assert {path.parent for path in (wheel, archive)} == {release.DIST}
    with ZipFile(wheel) as packed:
        assert {entry.date_time for entry in packed.infolist()} == {(2026, 11, 30, 8, 0, 0)}
    with tarfile.open(archive) as sources:
        assert {entry.mtime for entry in sources} == {AT}
        assert {entry.mode & 0o077 for entry in sources if entry.isfile()} <= {0o044, 0o055}


@pytest.mark.packaging
@pytest.mark.parametrize(
    ("varies", "name"), [("tree-1-1", "two builds"), ("fastapi_authapi", "built from the archive")]
)
def test_builds_that_differ_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, varies: str, name: str
) -> None:
    build = release.hatch

    def vary(tree: Path, environment: Mapping[str, str], at: int, mask: int, *targets: str) -> Path:
        if tree.name.startswith(varies):
            at += 2  # the times in an archive of this format are even
        return build(tree, environment, at, mask, *targets)

    monkeypatch.setattr(release, "hatch", vary)
    with pytest.raises(RuntimeError, match=name):
        release.build(tmp_path, AT)
    assert not release.DIST.exists()


def test_a_version_without_a_section_of_the_changelog_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(release, "ROOT", tmp_path)
    monkeypatch.setattr(release, "run", lambda *_: "")
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## [Unreleased]\n\n## [1.2.3] - 2026\n")
    release.check_ready("1.2.3")
    with pytest.raises(RuntimeError, match=r"no section for 1\.2\.4"):
        release.check_ready("1.2.4")


def test_changes_that_are_not_committed_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(release, "run", lambda *_: " M src/authapi/app.py")
    with pytest.raises(RuntimeError, match=r"not committed:\n M src/authapi/app\.py"):
        release.check_ready("0")


def test_each_python_from_3_11_on_is_found_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pyenv = tmp_path / "pyenv"
    for name, says in (("3.10", "3.10"), ("3.98", "3.98"), ("3.99", "")):
        program = pyenv / "versions" / name / "bin" / f"python{name}"
        program.parent.mkdir(parents=True)
        program.write_text(f"#!/bin/sh\necho '{says}'\n")
        program.chmod(0o755)
    monkeypatch.setenv("PYENV_ROOT", str(pyenv))
    found = release.pythons()
    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert found[own] == Path(sys.executable)
    assert found["3.98"] == pyenv / "versions/3.98/bin/python3.98"
    assert found.keys().isdisjoint({"3.10", "3.99"})
    assert list(found)[-1] == "3.98"


def test_a_failed_program_is_named_with_its_output() -> None:
    with pytest.raises(RuntimeError, match=r"(?s)import nothing failed:.*No module named"):
        release.run(sys.executable, "-c", "import nothing")
