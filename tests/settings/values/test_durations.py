"""Durations as seconds, words and ISO 8601, in every setting of that type."""

from datetime import timedelta
from typing import get_type_hints

import pytest

from authapi.errors import ConfigurationError
from authapi.settings import EdgeSettings, Settings, load_settings
from authapi.settings.values.durations import EXPECTED, parse_duration

HOUR = timedelta(hours=1)
SECONDS_SETTINGS = {
    "body_timeout",
    "mail_timeout",
    "database_pool_timeout",
    "database_timeout",
    "shutdown_delay",
    "shutdown_timeout",
}
"""Settings whose value is a number of seconds."""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *(("3600", HOUR), ("1h", HOUR), ("60m", HOUR), ("PT1H", HOUR), ("1 hour", HOUR)),
        *(("1H", HOUR), ("60 min", HOUR), ("3600s", HOUR), ("3600 seconds", HOUR), (" 1h\n", HOUR)),
        *(("0.5h 30m", HOUR), ("30m, 1800s", HOUR), ("1 Hour", HOUR), ("1hr", HOUR)),
        ("1h30m", timedelta(minutes=90)),
        ("1d 2h 3m 4s", timedelta(days=1, hours=2, minutes=3, seconds=4)),
        ("2w", timedelta(days=14)),
        ("P14D", timedelta(days=14)),
        ("1.5h", timedelta(minutes=90)),
        ("250ms", timedelta(milliseconds=250)),
    ],
)
def test_valid_durations(text: str, expected: timedelta) -> None:
    assert parse_duration(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            " ",
            "soon",
            "h",
            "1x",
            "1h 1h",
            "1h 2 hours",
            "1mo",
            "1 month",
            "1y",
            "1 year",
            "1h-",
        ),
        *("1h 2", "1,5h", "٣٦٠٠", "²", "1h\0", "9" * 30, "9" * 30 + "h", "1h" * 5000, "in 1h"),
    ],
)
def test_invalid_durations_are_rejected(text: str) -> None:
    with pytest.raises(ValueError, match="must be a duration") as caught:
        parse_duration(text)
    assert str(caught.value) == EXPECTED
    assert caught.value.__cause__ is None


def duration_settings() -> set[str]:
    hints = get_type_hints(Settings)
    return {name for name in Settings.model_fields if hints[name] is timedelta}


@pytest.mark.parametrize("text", ["1h", "PT1H", "3600", "60 minutes"])
def test_every_duration_setting_accepts_words(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(duration_settings()) > 15
    for name in duration_settings():
        monkeypatch.setenv(f"AUTHAPI_{name.upper()}", text)
    settings = load_settings()
    assert {getattr(settings, name) for name in duration_settings()} == {HOUR}


@pytest.mark.parametrize(("text", "seconds"), [("20s", 20), ("0.5 min", 30), ("7", 7), ("PT9S", 9)])
def test_every_seconds_setting_accepts_words(
    text: str, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in SECONDS_SETTINGS:
        monkeypatch.setenv(f"AUTHAPI_{name.upper()}", text)
        value = getattr(load_settings(), name)
        assert (value, type(value)) == (seconds, get_type_hints(Settings)[name])


def test_every_timeout_and_delay_is_a_seconds_setting() -> None:
    hints = get_type_hints(Settings, include_extras=True)
    value = {
        name
        for name in Settings.model_fields
        if name.endswith(("_timeout", "_delay")) and hints[name] not in (int, float)
    }
    assert value == SECONDS_SETTINGS
    assert "body_timeout" in EdgeSettings.model_fields


def test_invalid_values_are_named_and_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("JWT_LIFETIME", "REFRESH_GRACE", "BODY_TIMEOUT", "SHUTDOWN_TIMEOUT")
    for name in names:
        monkeypatch.setenv(f"AUTHAPI_{name}", "canary")
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    for name in names:
        assert f"AUTHAPI_{name}: {EXPECTED}" in str(caught.value)
    assert "canary" not in str(caught.value)


def test_bounds_apply_to_words(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in (("REFRESH_GRACE", "2h"), ("JWT_LIFETIME", "0s"), ("BODY_TIMEOUT", "2h")):
        with monkeypatch.context() as patch:
            patch.setenv(f"AUTHAPI_{name}", text)
            with pytest.raises(ConfigurationError, match=f"AUTHAPI_{name}"):
                load_settings()
