"""benchmarks/budgets.py: which values pass, and what happens to one that does not."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from benchmarks.budgets import ATTEMPTS, FILE, Budget, check, read

HIGHER = Budget("ratio", "a ratio", "higher", reached=0.8, margin=0.25)
LOWER = Budget("size", "a size", "lower", reached=100, margin=0.1)


@pytest.mark.parametrize("budget", read(FILE), ids=lambda budget: budget.name)
def test_a_figure_that_is_a_third_worse_fails(budget: Budget) -> None:
    worse = 2 / 3 if budget.better == "higher" else 4 / 3
    assert budget.is_kept(budget.reached)
    assert not budget.is_kept(budget.reached * worse)


@pytest.mark.parametrize("margin", [0, 0.34, 1])
def test_a_margin_that_hides_a_third_is_refused(tmp_path: Path, margin: float) -> None:
    file = tmp_path / "budgets.toml"
    file.write_text(f'[a]\ntext = "a"\nbetter = "lower"\nreached = 1\nmargin = {margin}\n')
    with pytest.raises(ValueError, match="a: the margin"):
        read(file)


def test_bounds_are_inclusive() -> None:
    assert HIGHER.bound == pytest.approx(0.6)
    assert LOWER.bound == pytest.approx(110)
    for budget in (HIGHER, LOWER):
        assert budget.is_kept(budget.bound)


@pytest.mark.parametrize(
    ("budget", "value", "line"),
    [
        (HIGHER, 0.7, "ok        0.700  a ratio: at least 0.600"),
        (HIGHER, 0.5, "FAILED    0.500  a ratio: at least 0.600"),
        (LOWER, 120, "FAILED  120.000  a size: at most 110.000"),
    ],
)
def test_a_line_names_value_and_bound(budget: Budget, value: float, line: str) -> None:
    assert budget.line(value) == line


@pytest.mark.parametrize(("budget", "value"), [(HIGHER, 1.1), (LOWER, 80)])
def test_a_much_better_value_asks_for_an_update(budget: Budget, value: float) -> None:
    assert "update it" in budget.line(value)


def test_a_figure_that_fails_is_measured_again_and_the_best_counts() -> None:
    values = iter([0.5, 0.7, 0.6])
    found, failed = check([HIGHER], [lambda: {"ratio": next(values)}])
    assert (found, failed) == ({"ratio": 0.7}, [])
    assert next(values) == 0.6  # the second value passes, so there is no third measurement


def test_a_figure_that_always_fails_is_reported() -> None:
    calls = []

    def measure() -> Mapping[str, float]:
        calls.append(1)
        return {"ratio": 0.9, "size": 150 - len(calls)}

    found, failed = check([HIGHER, LOWER], [measure])
    assert (found, failed) == ({"ratio": 0.9, "size": 150 - ATTEMPTS}, [LOWER])
    assert len(calls) == ATTEMPTS


def test_a_slow_machine_does_not_measure_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.budgets.REPEAT_UNTIL", 0.0)
    values = iter([0.5, 0.7])
    found, failed = check([HIGHER], [lambda: {"ratio": next(values)}])
    assert (found, failed) == ({"ratio": 0.5}, [HIGHER])


@pytest.mark.parametrize("values", [{}, {"ratio": 0.8, "other": 1.0}])
def test_each_figure_has_a_budget_and_each_budget_a_figure(values: Mapping[str, float]) -> None:
    with pytest.raises(ValueError, match=r"not in both"):
        check([HIGHER], [lambda: values])
