"""`authapi passwords calibrate`, as a real process."""

import json

import pytest

from authapi.settings import load_settings
from tests.cli.conftest import Result, Run


@pytest.fixture
def calibrate(run: Run) -> Run:
    def run_calibrate(*options: str) -> Result:
        return run("passwords", "calibrate", *options)

    return run_calibrate


def test_what_it_proposes_is_accepted_by_the_settings(
    calibrate: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = calibrate("--milliseconds", "200", "--memory", "40000", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    proposed = json.loads(done.stdout)
    assert 0 < proposed.pop("milliseconds") <= 200
    assert set(proposed) == {
        "AUTHAPI_ARGON2_MEMORY",
        "AUTHAPI_ARGON2_PASSES",
        "AUTHAPI_ARGON2_LANES",
    }
    for name, value in proposed.items():
        monkeypatch.setenv(name, str(value))
    settings = load_settings()
    assert 19456 <= settings.argon2_memory <= 40000
    assert (settings.argon2_passes >= 2, settings.argon2_lanes >= 1) == (True, True)
    # Memory first: passes are only added where there is no more of it.
    assert settings.argon2_passes == 2 or settings.argon2_memory * 5 // 4 > 40000


def test_for_people_it_prints_lines_to_copy(calibrate: Run) -> None:
    done = calibrate("--milliseconds", "200", "--memory", "19456")
    assert (done.returncode, done.stderr) == (0, "")
    names = [line.split()[0] for line in done.stdout.splitlines()]
    assert names == [
        "AUTHAPI_ARGON2_MEMORY",
        "AUTHAPI_ARGON2_PASSES",
        "AUTHAPI_ARGON2_LANES",
        "milliseconds",
    ]


def test_it_proposes_nothing_below_the_floor(calibrate: Run) -> None:
    # No machine does two passes over 19 MiB in five milliseconds.
    done = calibrate("--milliseconds", "5")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("authapi: the least that is accepted takes ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("option", "value"),
    [("--milliseconds", "4"), ("--memory", "19455"), ("--memory", "1048577"), ("--memory", "x")],
)
def test_options_out_of_bounds_are_refused(calibrate: Run, option: str, value: str) -> None:
    done = calibrate(option, value)
    assert (done.returncode, done.stdout) == (2, "")
    assert option in done.stderr
