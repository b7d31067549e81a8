"""Builds a release into dist/: a wheel, an archive of the sources, and a bill of materials.

The wheel and the archive are built twice, from the last commit, and must be equal byte for byte; so
must a wheel that is built from the archive. Their metadata is checked, and README as an index of
packages shows it. Then the wheel is installed in empty virtual environments, with the lowest and
the newest dependencies, and with each Python from 3.11 on that is found; there, the commands and
programs of README run. Nothing is uploaded.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from zipfile import ZipFile

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools.sbom import ROOT, write_sbom

BIN = Path(sys.executable).parent
DIST = ROOT / "dist"
LOWEST_PYTHON = (3, 11)
_LINK = re.compile(r'(?:href|src)="([^"]*)"')
_PYTHON = re.compile(r"python3\.(\d+)")
# What must not change the result differs between both builds.
_BUILDS: tuple[tuple[int, Mapping[str, str]], ...] = (
    (0o022, {"TZ": "UTC", "LC_ALL": "C", "PYTHONHASHSEED": "1"}),
    (0o077, {"TZ": "Asia/Seoul", "LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "2"}),
)
_CONFIGURATION = "[pytest]\npythonpath = . walk\nconsider_namespace_packages = true\n"
"""The configuration for the tests of README, which import only what an installation has."""
_PLACE = """
import pytest

@pytest.fixture(autouse=True)
def _place(monkeypatch, tmp_path):
    monkeypatch.setenv("AUTHAPI_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
"""
"""What these tests need of `tests/conftest.py`, which imports the packages of all tests."""


def main() -> int:
    """Runs all steps. Returns 1 and names the first that fails, else 0."""
    parser = argparse.ArgumentParser(description="Build and check a release in dist/.")
    parser.add_argument(
        "--rehearse",
        action="store_true",
        help="accept changes that are not committed, and a version without a section of CHANGELOG",
    )
    parser.add_argument(
        "--output", type=Path, default=DIST, metavar="FOLDER", help="the folder, by default dist"
    )
    arguments = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory(prefix="authapi-release-") as folder:
            release(Path(folder), arguments.output.resolve(), rehearse=arguments.rehearse)
    except RuntimeError as problem:
        print(f"release: {problem}", file=sys.stderr)
        return 1
    return 0


def release(folder: Path, output: Path, *, rehearse: bool) -> None:
    """Builds into `output` and checks, with temporary files in `folder`.

    Raises RuntimeError for a problem.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    if not rehearse:
        check_ready(project["version"])
    at = int(run("git", "log", "-1", "--format=%ct"))
    wheel, archive = build(folder, output, at)
    say(f"building a bill of materials for {wheel.name} and {archive.name}")
    bill = output / f"{wheel.name.rpartition('-py3')[0]}.cdx.json"
    write_sbom([wheel, archive], bill, at=at)
    check_metadata(folder, [wheel, archive], bill)
    [sources] = (folder / "unpacked").iterdir()
    extras = ",".join(sorted(project["optional-dependencies"]))
    say(f"installing with the lowest dependencies on {version_of(Path(sys.executable))}")
    lowest = create(folder / "lowest", Path(sys.executable))
    lock = str(ROOT / "requirements" / "lowest.txt")
    uv("pip", "sync", "--require-hashes", "--python", str(lowest), lock)
    uv("pip", "install", "--no-deps", "--python", str(lowest), str(wheel))
    walk_readme(lowest, sources)
    for name, python in pythons().items():
        say(f"installing with the newest dependencies on Python {name}")
        newest = create(folder / f"newest-{name}", python)
        uv("pip", "install", "--python", str(newest), f"{wheel}[{extras}]")
        walk_readme(newest, sources)
    for path in (wheel, archive, bill):
        print(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)


def check_ready(version: str) -> None:
    """Raises RuntimeError if the last commit is not what a release should contain."""
    if changes := run("git", "status", "--porcelain"):
        raise RuntimeError(f"these changes are not committed:\n{changes}")
    if f"\n## [{version}]" not in (ROOT / "CHANGELOG.md").read_text():
        raise RuntimeError(f"CHANGELOG.md has no section for {version}")


def build(folder: Path, output: Path, at: int) -> tuple[Path, Path]:
    """Returns the wheel and the archive of the last commit. Raises RuntimeError if they vary.

    They are in `output`, which is emptied before. `at` is the time of the files, in seconds since
    1970.
    """
    results: list[Path] = []
    for number, (mask, environment) in enumerate(_BUILDS, 1):
        say(f"building the wheel and the archive of the sources, {number} of {len(_BUILDS)}")
        tree = folder / ("tree" + "-1" * number)
        tree.mkdir()
        packed = folder / "commit.tar"
        run("git", "archive", "--output", str(packed), "HEAD")
        run(
            "tar", "--extract", "--no-same-permissions", "--file", str(packed), cwd=tree, umask=mask
        )
        results.append(hatch(tree, environment, at, mask))
    first, second = results
    names = sorted(path.name for path in first.iterdir())
    for name in names:
        if (first / name).read_bytes() != (second / name).read_bytes():
            raise RuntimeError(f"two builds of {name} differ")
    archive, wheel = (first / name for name in sorted(names, key=lambda name: name[-3:]))
    with tarfile.open(archive) as sources:
        # Python 3.11.2 of Debian has no filters.
        sources.extraction_filter = getattr(tarfile, "data_filter", None)
        sources.extractall(folder / "unpacked")  # noqa: S202  # built here
    [unpacked] = (folder / "unpacked").iterdir()
    again = hatch(unpacked, {}, at, _BUILDS[0][0], "wheel") / wheel.name
    if again.read_bytes() != wheel.read_bytes():
        raise RuntimeError("the wheel that is built from the archive differs")
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir()
    return Path(shutil.copy(wheel, output)), Path(shutil.copy(archive, output))


def hatch(tree: Path, environment: Mapping[str, str], at: int, mask: int, *targets: str) -> Path:
    """Builds the targets, by default all, of a tree; returns the folder of the results."""
    options = [item for target in targets for item in ("--target", target)]
    times = {**environment, "SOURCE_DATE_EPOCH": str(at)}
    command = (sys.executable, "-m", "hatchling", "build", "--directory", "built", *options)
    run(*command, cwd=tree, environment=times, umask=mask)
    return tree / "built"


def check_metadata(folder: Path, artifacts: list[Path], bill: Path) -> None:
    """Checks the metadata, README as an index renders it, and the form of the bill."""
    say("checking metadata, README and the bill of materials")
    python = create(folder / "checks", Path(sys.executable))
    lock = str(ROOT / "requirements" / "release.txt")
    uv("pip", "sync", "--require-hashes", "--python", str(python), lock)
    run(str(python), "-m", "twine", "check", "--strict", *map(str, artifacts))
    description = folder / "description.md"
    description.write_text(description_of(artifacts[0]), encoding="utf-8")
    html = run(str(python), "-m", "readme_renderer", str(description))
    check_rendered(description.read_text(encoding="utf-8"), html)
    validate = (
        "import sys\n"
        "from cyclonedx.schema import SchemaVersion\n"
        "from cyclonedx.validation.json import JsonStrictValidator\n"
        "text = open(sys.argv[1], encoding='utf-8').read()\n"
        "sys.exit(str(JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) or '') or None)\n"
    )
    run(str(python), "-c", validate, str(bill))


def description_of(wheel: Path) -> str:
    """Returns the description in the metadata of a wheel."""
    with ZipFile(wheel) as packed:
        [name] = [it for it in packed.namelist() if it.endswith(".dist-info/METADATA")]
        _, _, text = packed.read(name).decode().partition("\n\n")
    return text


def check_rendered(description: str, html: str) -> None:
    """Checks what an index makes of a description. Raises RuntimeError if something is lost."""
    source = re.sub(r"^```.*?^```$", "", description, flags=re.MULTILINE | re.DOTALL)
    headings = len(re.findall(r"^#+ ", source, re.MULTILINE))
    if len(re.findall(r"<h[1-6]", html)) != headings or "```" in html:
        raise RuntimeError("README is not rendered with all of its headings and programs")
    dead = [link for link in _LINK.findall(html) if not re.match(r"[a-z]+:|#", link)]
    if dead:
        raise RuntimeError(f"these links of the description lead nowhere: {', '.join(dead)}")


def walk_readme(python: Path, sources: Path) -> None:
    """Runs the tests of README in the archive of the sources with an installed wheel."""
    uv("pip", "check", "--python", str(python))
    place = run(str(python), "-c", "import authapi; print(authapi.__file__)", cwd=sources)
    if not Path(place).is_relative_to(python.parent.parent):
        raise RuntimeError(f"{place} is not the installed package")
    (sources / "walk").mkdir(exist_ok=True)
    (sources / "walk" / "place.py").write_text(_PLACE)
    configuration = sources / "walk.ini"
    configuration.write_text(_CONFIGURATION)
    options = ["--noconftest", "--import-mode=importlib", "-p", "no:cacheprovider", "-p", "place"]
    options.append(f"--basetemp={python.parent.parent / 'tmp'}")
    command = (str(python), "-m", "pytest", "-c", str(configuration), *options)
    print(run(*command, "-q", "tests/test_readme.py", cwd=sources).splitlines()[-1])


def pythons() -> Mapping[str, Path]:
    """Returns the interpreters of this machine from 3.11 on, one for each minor version."""
    found = {version_of(Path(sys.executable)): Path(sys.executable)}
    for path in _candidates():
        name = path.name.removeprefix("python")
        if name not in found and version_of(path) == name:
            found[name] = path
    return dict(sorted(found.items(), key=lambda item: int(item[0].partition(".")[2])))


def _candidates() -> Iterator[Path]:
    """Yields interpreters in PATH, and those that pyenv and uv have installed."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    managed = Path(uv("python", "dir"))
    folders = [Path(item) for item in os.environ["PATH"].split(os.pathsep)]
    folders += [path / "bin" for home in (pyenv, managed) for path in sorted(home.glob("*"))]
    for folder in folders:
        for path in sorted(folder.glob("python3.*")):
            minor = _PYTHON.fullmatch(path.name)
            if minor and (3, int(minor[1])) >= LOWEST_PYTHON:
                yield path


def version_of(python: Path) -> str:
    """Returns the version of an interpreter, such as `3.11`; empty if it does not start."""
    command = [str(python), "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else ""


def create(folder: Path, python: Path) -> Path:
    """Creates an empty virtual environment; returns its interpreter."""
    uv("venv", "--python", str(python), str(folder))
    return folder / "bin" / "python"


def uv(*arguments: str) -> str:
    """Runs uv of this environment; returns its output. Raises RuntimeError if it fails."""
    return run(str(BIN / "uv"), *arguments)


def run(
    *command: str,
    cwd: Path = ROOT,
    environment: Mapping[str, str] | None = None,
    umask: int = -1,
) -> str:
    """Runs a program; returns its output. Raises RuntimeError if it fails."""
    # A developer's variables for authapi and Python would change what an installation does.
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AUTHAPI_", "PYTHON", "VIRTUAL_ENV"))
    }
    done = subprocess.run(
        command,
        check=False,
        cwd=cwd,
        env={**inherited, **(environment or {})},
        capture_output=True,
        text=True,
        umask=umask,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout.strip()


def say(text: str) -> None:
    """Prints what begins."""
    print(f"==> {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
