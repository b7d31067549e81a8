"""The delays between attempts that fail, and that they differ from process to process."""

import secrets

import pytest

from authapi import backoff
from authapi.backoff import delay_after, longest_delay


@pytest.mark.parametrize(
    ("failures", "delay"), [(1, 1.0), (2, 2.0), (3, 4.0), (6, 32.0), (7, 60.0), (10**6, 60.0)]
)
def test_the_bound_doubles_up_to_the_limit(failures: int, delay: float) -> None:
    assert longest_delay(failures, limit=60.0) == delay


@pytest.mark.parametrize(("drawn", "share"), [(0, 1.0), (500, 0.875), (1000, 0.75)])
def test_up_to_a_quarter_of_a_delay_is_random(
    monkeypatch: pytest.MonkeyPatch, drawn: int, share: float
) -> None:
    monkeypatch.setattr(backoff, "randbelow", lambda _: drawn)
    assert delay_after(4, limit=60.0) == 8 * share
    assert delay_after(99, limit=60.0) == 60 * share, "the limit, too, is no common moment"


def test_processes_that_fail_together_do_not_come_back_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(backoff, "randbelow", secrets.randbelow)  # conftest has replaced it
    delays = {delay_after(99, limit=60.0) for _ in range(64)}
    assert len(delays) > 16
    assert all(45.0 < delay <= 60.0 for delay in delays)
