"""tools/release.py builds the same bytes each time, and refuses what is not ready."""

import re
import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from zipfile import ZipFile

import pytest
from tools import release

ROOT = Path(__file__).resolve().parents[2]
AT = int(datetime(2026, 11, 30, 8, 0, tzinfo=UTC).timestamp())
NAMES = ("a-1-py3-none-any.whl", "a-1.tar.gz")


@pytest.mark.packaging
def test_make_release_builds_checks_and_tries_all_files(tmp_path: Path) -> None:
    output, at = tmp_path / "dist", int(release.run("git", "log", "-1", "--format=%ct"))
    make = ["make", "--no-print-directory", "release", f"ARGS=--rehearse --output {output}"]
    done = subprocess.run(make, cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    [wheel], [archive] = output.glob("*.whl"), output.glob("*.tar.gz")
    [bill] = output.glob("*.cdx.json")
    assert set(output.iterdir()) == {wheel, archive, bill}
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert {path.name.split("-")[1].removesuffix(".tar.gz") for path in (wheel, archive)} == {
        version
    }
    # The lowest dependencies once, the newest on each Python; README runs with all of them.
    tried = [line for line in done.stdout.splitlines() if line.startswith("==> installing with")]
    assert len(tried) == 1 + len(release.pythons())
    assert len(re.findall(r"^\d+ passed", done.stdout, re.MULTILINE)) == len(tried)
    with tarfile.open(archive) as sources:
        assert {entry.mtime for entry in sources} == {at}
        assert {entry.mode & 0o077 for entry in sources if entry.isfile()} <= {0o044, 0o055}
    with ZipFile(wheel) as packed:
        assert len({entry.date_time for entry in packed.infolist()}) == 1


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Replaces hatchling by files of a few bytes; those of the trees named here have others."""
    own: dict[str, bytes] = {}

    def hatch(
        tree: Path, environment: Mapping[str, str], at: int, mask: int, *targets: str
    ) -> Path:
        built = tree / "built"
        built.mkdir()
        content = own.get(tree.name, b"") + at.to_bytes(8)
        (built / NAMES[0]).write_bytes(content)
        with tarfile.open(built / NAMES[1], "w:gz", compresslevel=0) as archive:
            archive.addfile(tarfile.TarInfo("unpacked/sources"))
        times = bytearray((built / NAMES[1]).read_bytes())
        times[4:8] = bytes(4)  # when gzip ran
        (built / NAMES[1]).write_bytes(times)
        return built

    monkeypatch.setattr(release, "hatch", hatch)
    return own


def test_equal_builds_are_copied(builds: dict[str, bytes], tmp_path: Path) -> None:
    output = tmp_path / "dist"
    output.mkdir()
    (output / "old.whl").touch()
    found = release.build(tmp_path, output, AT)
    assert [path.name for path in found] == list(NAMES)
    assert sorted(output.iterdir()) == sorted(found), "older files have gone"


@pytest.mark.parametrize(
    ("varies", "problem"), [("tree-1-1", "two builds"), ("unpacked", "built from the archive")]
)
def test_builds_that_differ_are_refused(
    builds: dict[str, bytes], tmp_path: Path, varies: str, problem: str
) -> None:
    builds[varies] = b"x"
    with pytest.raises(RuntimeError, match=problem):
        release.build(tmp_path, tmp_path / "dist", AT)
    assert not (tmp_path / "dist").exists()


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
