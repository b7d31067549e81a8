"""Descriptions of the settings; the console and the command line show the values."""

from pathlib import Path

import pytest

from authapi.settings import Settings
from authapi.settings.descriptions import reference, value_in_words
from authapi.settings.loading import load_settings


def test_settings_read_back_what_is_described(monkeypatch: pytest.MonkeyPatch) -> None:
    given = Settings.isolated(
        scopes={"a:b": "Read all", "c": "C"},
        roles={"reader": frozenset({"a:b", "c"}), "none": frozenset({"c"})},
        session_idle="90m",
        database_timeout=2.5,
        shutdown_delay=1,
        locales=("en",),
        docs=False,
        data_dir=Path("/x"),
        limit_mails="3/2 hours",
    )
    for name in Settings.model_fields:
        monkeypatch.setenv(f"AUTHAPI_{name.upper()}", value_in_words(name, getattr(given, name)))
    assert load_settings() == given


def test_each_description_is_one_line_with_its_group() -> None:
    for it in reference():
        assert it.text
        assert "\n" not in it.text
        assert it.group.startswith(("Settings of", "The names of", "All settings"))
