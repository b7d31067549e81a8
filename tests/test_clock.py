"""`parse_time` implements RFC 3339, in the same way on every version of Python."""

from datetime import UTC, datetime

import pytest

from authapi.clock import parse_time

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-31T12:00:00Z", NOON),
        ("2026-01-31t12:00:00z", NOON),
        ("2026-01-31T12:00:00z", NOON),
        ("2026-01-31T12:00:00+00:00", NOON),
        ("2026-01-31T12:00:00-00:00", NOON),  # unknown local offset (section 4.3)
        ("2026-01-31T21:00:00+09:00", NOON),
        ("2026-01-30T12:01:00-23:59", NOON),
        ("2026-01-31T12:00:00.0Z", NOON),
        ("2026-01-31T12:00:00.000000000000000000001Z", NOON),
        ("2026-01-31T12:00:00.5Z", NOON.replace(microsecond=500_000)),
        ("2026-01-31T12:00:00.0000019Z", NOON.replace(microsecond=1)),
        ("2026-01-31T12:00:00." + "9" * 5000 + "Z", NOON.replace(microsecond=999_999)),
        ("2016-12-31T23:59:60Z", datetime(2017, 1, 1, tzinfo=UTC)),
        (
            "1990-12-31T15:59:60-08:00",
            datetime(1991, 1, 1, tzinfo=UTC),
        ),  # the example of section 5.8
        ("2000-02-29T00:00:00Z", datetime(2000, 2, 29, tzinfo=UTC)),
        ("0001-01-01T00:00:00+14:00", datetime.min.replace(tzinfo=UTC)),
        ("9999-12-31T23:59:59-01:00", datetime.max.replace(tzinfo=UTC)),
    ],
)
def test_valid_times_are_parsed(text: str, expected: datetime) -> None:
    assert parse_time(text) == expected
    assert parse_time(text).tzinfo is UTC


@pytest.mark.parametrize(
    "text",
    [
        *("", "now", "0", "2026-01-31", "2026-01-31T12:00:00", "2026-01-31 12:00:00Z"),
        *("2026-01-31T12:00Z", "2026-01-31T12Z", "20260131T120000Z", "2026-W05-6T12:00:00Z"),
        *("2026-031T12:00:00Z", "2026-1-31T12:00:00Z", "26-01-31T12:00:00Z", "+2026-01-31T12:00Z"),
        *("2026-01-31T24:00:00Z", "2026-01-31T12:60:00Z", "2026-01-31T12:00:61Z"),
        *("2026-01-31T12:00:60Z", "2026-01-30T23:59:60Z", "2026-02-30T12:00:00Z"),
        *("2026-13-01T12:00:00Z", "2026-00-01T12:00:00Z", "2026-01-00T12:00:00Z"),
        *("2025-02-29T12:00:00Z", "0000-01-01T00:00:00Z", "2026-01-31T12:00:00.Z"),
        *("2026-01-31T12:00:00,5Z", "2026-01-31T12:00:00+09", "2026-01-31T12:00:00+0900"),
        *("2026-01-31T12:00:00+24:00", "2026-01-31T12:00:00+09:60", "2026-01-31T12:00:00+09:00:00"),
        *("2026-01-31T12:00:00 09:00", "2026-01-31T12:00:00ZZ", " 2026-01-31T12:00:00Z"),
        *("2026-01-31T12:00:00Z\n", "２０２６-01-31T12:00:00Z", "2026-01-31T12:00:0٠Z"),
        *("2026-01-31T12:00:00\u2212 09:00", "2026-01-31T12:00:00Z[UTC]", "2026-01-31T12:00:00UTC"),
    ],
)
def test_invalid_times_are_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # `datetime` raises some of the errors, with its own texts
        parse_time(text)
