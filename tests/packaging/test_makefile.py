"""`make help` describes every target, and all prerequisites of targets exist.

tools/parts.sh installs programs for targets; here it runs with an apt-get that records its calls.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TARGETS = re.findall(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[0].split()


def make(*arguments: str) -> str:
    done = subprocess.run(
        ["make", "--no-print-directory", *arguments],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_make_without_target_describes_every_target() -> None:
    explained = re.findall(r"^  make ([a-z-]+) +\S", make(), re.MULTILINE)
    assert sorted(explained) == sorted(TARGETS)
    assert make("help") == make()


@pytest.mark.parametrize("target", TARGETS)
def test_dry_run_of_every_target(target: str) -> None:
    assert make("--dry-run", target)


class Machine:
    """Creates a PATH with only `programs`, and with a recording apt-get if `apt_get` is set."""

    def __init__(self, folder: Path, programs: Sequence[str], *, user: int, apt_get: bool) -> None:
        self._bin = folder / "bin"
        self._bin.mkdir()
        self.policy = folder / "policy-rc.d"
        self._calls = folder / "calls"
        for name in programs:
            self._add(name, "exit 0")
        for name in ("rm", "chmod"):
            (self._bin / name).symlink_to(shutil.which(name) or name)
        self._add("id", f"echo {user}")
        if apt_get:
            # Like a package with a service, it asks policy-rc.d whether that may start.
            self._add(
                "apt-get",
                f'"$POLICY_RC_D"; echo "policy=$?" "$DEBIAN_FRONTEND" "$@" >>{self._calls}',
            )

    def _add(self, name: str, script: str) -> None:
        path = self._bin / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def parts(self, *names: str) -> subprocess.CompletedProcess[str]:
        # Names that no machine has, because the script also searches /usr/sbin.
        return subprocess.run(
            [shutil.which("bash") or "bash", ROOT / "tools" / "parts.sh", *names],
            env={"PATH": str(self._bin), "POLICY_RC_D": str(self.policy)},
            check=False,
            capture_output=True,
            text=True,
        )

    @property
    def calls(self) -> list[str]:
        return self._calls.read_text().splitlines() if self._calls.exists() else []


def test_installed_programs_are_not_reinstalled(tmp_path: Path) -> None:
    machine = Machine(tmp_path, ["left-part", "right-part"], user=0, apt_get=True)
    done = machine.parts("left-part", "right-part=its-package")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert machine.calls == []


@pytest.mark.parametrize(("user", "apt_get"), [(1000, True), (0, False)])
def test_missing_program_without_apt_is_named(tmp_path: Path, user: int, apt_get: bool) -> None:
    machine = Machine(tmp_path, ["left-part"], user=user, apt_get=apt_get)
    done = machine.parts("left-part", "right-part=its-package", "another-part")
    assert done.returncode == 1
    assert "apt-get install its-package another-part" in done.stderr
    assert "left-part" not in done.stderr
    assert machine.calls == []


@pytest.mark.parametrize("has_policy", [True, False])
def test_missing_program_is_installed_without_starting_services(
    tmp_path: Path, has_policy: bool
) -> None:
    machine = Machine(tmp_path, ["left-part"], user=0, apt_get=True)
    if has_policy:
        machine.policy.write_text("#!/bin/sh\nexit 7\n")
        machine.policy.chmod(0o755)
    done = machine.parts("left-part", "right-part=its-package")
    assert (done.returncode, done.stderr) == (0, "")
    assert "apt-get install its-package" in done.stdout
    update, install = machine.calls
    assert "update" in update.split()
    asked = {"noninteractive", "install", "--yes", "--no-install-recommends", "its-package"}
    assert asked <= set(install.split())
    # 101 forbids starting services. An existing policy is used and kept.
    assert install.startswith(f"policy={7 if has_policy else 101} ")
    assert machine.policy.exists() == has_policy


def test_every_program_has_a_debian_package() -> None:
    asked = re.findall(r"\$\(PARTS\) (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert sorted({name for line in asked for name in line.split()}) == [
        "caddy",
        "chromium",
        "etcd",
        "haproxy",
        "nginx",
        "node",
        "npm",
        "patroni",
        "pgbouncer",
        "promtool",
    ]
    assert os.access(ROOT / "tools" / "parts.sh", os.X_OK)
