"""Values as text and as JSON."""

import json
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authapi.cli.terminal.texts import as_json, as_text
from authapi.domain.monitoring.wording import duration_in_words, size_in_words
from authapi.settings.values.durations import parse_duration

AT = datetime(2026, 11, 30, 10, 0, 0, 5, tzinfo=timezone(timedelta(hours=1)))


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 seconds"),
        (1, "1 second"),
        (90, "1 minute 30 seconds"),
        (86400, "1 day"),
        (14 * 86400 + 3600, "14 days 1 hour"),
        (0.25, "250 milliseconds"),
        (2.5, "2.5 seconds"),
    ],
)
def test_durations_in_words(seconds: float, words: str) -> None:
    assert duration_in_words(timedelta(seconds=seconds)) == words


@given(st.integers(0, 10**9))
def test_settings_accept_the_words(seconds: int) -> None:
    duration = timedelta(seconds=seconds)
    assert parse_duration(duration_in_words(duration)) == duration


def test_values_are_one_line_of_printable_characters() -> None:
    assert as_text(None) == as_text([]) == as_text({}) == "-"
    assert (as_text(True), as_text(False)) == ("yes", "no")
    assert as_text(AT) == "2026-11-30 09:00:00Z"
    assert as_text(frozenset({"b\n", "a\x1b"})) == "a? b?"
    assert as_text({"a": "\t", "b": 1}) == "a=? b=1"
    assert as_text("\u202e\x07x") == "??x"


def test_json_has_the_times_of_the_api() -> None:
    found = json.loads(as_json({"at": AT, "id": UUID(int=1), "for": timedelta(seconds=3)}))
    assert found == {"at": "2026-11-30T09:00:00.000005Z", "id": str(UUID(int=1)), "for": 3.0}
    assert datetime.fromisoformat(found["at"]) == AT.astimezone(UTC)


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (0, "0 bytes"),
        (1023, "1,023 bytes"),
        (1024, "1.0 KiB"),
        (100 * 1024, "100 KiB"),
        (4_404_019, "4.2 MiB"),
        (20 * 2**30, "20.0 GiB"),
        (1300 * 2**40, "1,300 TiB"),
        (3 * 2**60, "3,145,728 TiB"),
    ],
)
def test_sizes_in_words(size: int, words: str) -> None:
    assert size_in_words(size) == words
