"""benchmarks/report.py: a run on a busy machine is marked, and its figures are still shown."""

from typing import Any

import pytest

from benchmarks import control, report, targets

ABOUT = {
    "about": {
        "date": "2026-01-01",
        "commit": "abc",
        "cpu": "a CPU",
        "cores": 2,
        "kernel": "6",
        "python": "3.11",
        "wrk": "not used",
        "load_before": 0.1,
    },
    "options": {"rounds": 9, "seconds": 3, "connections": 16, "store": "postgres"},
}


def guest(ratio: float) -> dict[str, Any]:
    microseconds = {"without": 60.0, "control": 60.0, "with": 61.0}
    return {**ABOUT, "control": ratio, "ratio": 0.98, "microseconds": microseconds}


@pytest.mark.parametrize("ratio", [0.97, 1.0, 1.03])
def test_a_control_within_the_limits_says_only_its_ratio(ratio: float) -> None:
    assert control.sentence(ratio) == f"Control, two identical bare applications: {ratio:.3f}."


@pytest.mark.parametrize("ratio", [0.969, 1.031, 0.2])
def test_a_control_outside_the_limits_says_that_the_machine_was_too_busy(ratio: float) -> None:
    assert f"{ratio:.3f}. **The machine was too busy" in control.sentence(ratio)


def test_a_run_without_control_says_so() -> None:
    assert control.sentence(None) == "No control was measured."


@pytest.mark.parametrize(("ratio", "said"), [(1.0, "yes"), (0.9, "yes, on a busy machine")])
def test_a_target_of_a_busy_run_is_marked(ratio: float, said: str) -> None:
    (row,) = [
        line for line in targets.markdown({"guest": guest(ratio)}).splitlines() if "0.98" in line
    ]
    assert row == (
        "| an open route beside authapi, of the same without authapi | at least 0.97 | 0.98 "
        f"| {said} |"
    )


def test_the_controls_are_first_and_each_section_repeats_its_own(tmp_path: Any) -> None:
    report.write({"guest": guest(0.9)}, tmp_path / "latest.json")
    text = (tmp_path / "latest.md").read_text()
    assert text.index("## Controls") < text.index("0.900") < text.index("## Targets")
    assert text.count("**The machine was too busy") == 2


def test_a_peer_that_is_faster_is_a_missed_target() -> None:
    def row(stack: str, family: str, rate: float) -> dict[str, Any]:
        return {"stack": stack, "family": family, "route": "JWT", "requests_per_second": rate}

    rows = [
        row("authapi in an application", "authapi", 900.0),
        row("authapi serve, GET /me", "authapi", 5000.0),  # another route than that of the peers
        row("a peer", "peer", 1000.0),
        row("another peer", "other", 100.0),
        {"stack": "a broken peer", "family": "broken", "route": "JWT", "error": "500"},
    ]
    lines = targets.markdown({"routes": {"rows": rows}}).splitlines()
    assert "| requests/s to those of the fastest peer: JWT | at least 1 | 0.90 | no |" in lines
