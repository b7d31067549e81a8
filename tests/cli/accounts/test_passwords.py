"""`authapi passwords calibrate`, as a real process."""

import json
from collections.abc import Callable

import pytest

from authapi.cli.accounts import passwords
from authapi.crypto.passwords import Cost
from authapi.settings import load_settings
from tests.cli.conftest import Result, Run


@pytest.fixture
def calibrate(run: Run) -> Run:
    def run_calibrate(*options: str) -> Result:
        return run("passwords", "calibrate", *options)

    return run_calibrate


@pytest.mark.slow
def test_proposed_values_are_valid_settings(
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
    # Memory first: passes grow only when memory is at its maximum.
    assert settings.argon2_passes == 2 or settings.argon2_memory * 5 // 4 > 40000


@pytest.mark.slow
def test_text_output_has_one_setting_per_line(calibrate: Run) -> None:
    done = calibrate("--milliseconds", "200", "--memory", "19456")
    assert (done.returncode, done.stderr) == (0, "")
    names = [line.split()[0] for line in done.stdout.splitlines()]
    assert names == [
        "AUTHAPI_ARGON2_MEMORY",
        "AUTHAPI_ARGON2_PASSES",
        "AUTHAPI_ARGON2_LANES",
        "milliseconds",
    ]


def test_too_short_target_time_is_an_error(calibrate: Run) -> None:
    # No machine does two passes over 19 MiB in 5 ms.
    done = calibrate("--milliseconds", "5")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("authapi: the minimum parameters take ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("option", "value"),
    [("--milliseconds", "4"), ("--memory", "19455"), ("--memory", "1048577"), ("--memory", "x")],
)
def test_options_out_of_bounds_are_rejected(calibrate: Run, option: str, value: str) -> None:
    done = calibrate(option, value)
    assert (done.returncode, done.stdout) == (2, "")
    assert option in done.stderr


@pytest.mark.parametrize("memory", [19456, 40000, 262144])
@pytest.mark.parametrize("milliseconds", [5, 20, 100, 1000, 5000])
@pytest.mark.parametrize(
    "took",
    [lambda work: work, lambda work: work**0.8 * 6, lambda work: work**1.2 / 8],
    ids=["in proportion", "less", "more"],
)
def test_proposes_the_largest_candidate_within_the_target_time(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    took: Callable[[int], float],
    milliseconds: int,
    memory: int,
) -> None:
    measured = []

    def measure(cost: Cost) -> float:
        measured.append(cost)
        return took(cost.memory * cost.passes) / 1e7

    least = Cost(19456, 2, 1)
    fitting = [least]
    for candidate in passwords._candidates(memory):
        if measure(candidate) > milliseconds / 1000:
            break
        fitting.append(candidate)
    measured.clear()
    monkeypatch.setattr(passwords, "_measure", measure)
    passwords.calibrate(milliseconds=milliseconds, memory=memory, as_json=True)
    proposed = json.loads(capsys.readouterr().out)
    assert (proposed["AUTHAPI_ARGON2_MEMORY"], proposed["AUTHAPI_ARGON2_PASSES"]) == (
        fitting[-1].memory,
        fitting[-1].passes,
    )
    # Distant candidates are not measured: that would take most of the time.
    assert len(measured) <= len(fitting) + 1
    if took(1) == 1:
        assert len(measured) <= 3
