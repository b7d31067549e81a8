"""Lengths of time: seconds, words and ISO 8601, in every setting and option that takes one."""

from datetime import timedelta
from typing import get_type_hints

import pytest

from authapi.errors import ConfigurationError
from authapi.settings import EdgeSettings, Settings, load_settings
from authapi.settings.durations import EXPECTED, parse_duration

HOUR = timedelta(hours=1)
NUMBERS = {
    "body_timeout",
    "mail_timeout",
    "database_pool_timeout",
    "database_timeout",
    "shutdown_delay",
    "shutdown_timeout",
}
"""Settings that are a number of seconds."""


@pytest.mark.parametrize(
    ("text", "meant"),
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
def test_what_is_read(text: str, meant: timedelta) -> None:
    assert parse_duration(text) == meant


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
def test_what_is_not(text: str) -> None:
    with pytest.raises(ValueError, match="must be a length of time") as refused:
        parse_duration(text)
    assert str(refused.value) == EXPECTED
    assert refused.value.__cause__ is None


def lifetimes() -> set[str]:
    hints = get_type_hints(Settings)
    return {name for name in Settings.model_fields if hints[name] is timedelta}


@pytest.mark.parametrize("text", ["1h", "PT1H", "3600", "60 minutes"])
def test_each_setting_reads_words(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(lifetimes()) > 15
    for name in lifetimes():
        monkeypatch.setenv(f"AUTHAPI_{name.upper()}", text)
    settings = load_settings()
    assert {getattr(settings, name) for name in lifetimes()} == {HOUR}


@pytest.mark.parametrize(("text", "seconds"), [("20s", 20), ("0.5 min", 30), ("7", 7), ("PT9S", 9)])
def test_each_number_of_seconds_reads_words(
    text: str, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in NUMBERS:
        monkeypatch.setenv(f"AUTHAPI_{name.upper()}", text)
        found = getattr(load_settings(), name)
        assert (found, type(found)) == (seconds, get_type_hints(Settings)[name])


def test_every_setting_that_says_seconds_is_one_of_these() -> None:
    hints = get_type_hints(Settings, include_extras=True)
    found = {
        name
        for name in Settings.model_fields
        if name.endswith(("_timeout", "_delay")) and hints[name] not in (int, float)
    }
    assert found == NUMBERS
    assert "body_timeout" in EdgeSettings.model_fields


def test_what_is_wrong_is_told_by_name_and_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("JWT_LIFETIME", "REFRESH_GRACE", "BODY_TIMEOUT", "SHUTDOWN_TIMEOUT")
    for name in names:
        monkeypatch.setenv(f"AUTHAPI_{name}", "canary")
    with pytest.raises(ConfigurationError) as refused:
        load_settings()
    for name in names:
        assert f"AUTHAPI_{name}: {EXPECTED}" in str(refused.value)
    assert "canary" not in str(refused.value)


def test_bounds_hold_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in (("REFRESH_GRACE", "2h"), ("JWT_LIFETIME", "0s"), ("BODY_TIMEOUT", "2h")):
        with monkeypatch.context() as patch:
            patch.setenv(f"AUTHAPI_{name}", text)
            with pytest.raises(ConfigurationError, match=f"AUTHAPI_{name}"):
                load_settings()
