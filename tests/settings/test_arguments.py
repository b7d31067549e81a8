"""Settings that are given in code."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from authapi import Settings
from authapi.errors import ConfigurationError


def test_an_argument_precedes_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTHAPI_PORT", "9001")
    monkeypatch.setenv("AUTHAPI_HOST", "0.0.0.0")
    settings = Settings(port=9002)
    assert (settings.port, settings.host) == (9002, "0.0.0.0")


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("databse_url", "database_url"),
        ("AUTHAPI_DATABASE_URL", "database_url"),
        ("jwt_lifetme", "jwt_lifetime"),
    ],
)
def test_a_misspelt_argument_is_refused_with_the_near_name(name: str, nearest: str) -> None:
    values: dict[str, Any] = {name: "x"}
    with pytest.raises(ConfigurationError, match=f"did you mean {nearest}[?]") as caught:
        Settings(**values)
    assert repr(name) in str(caught.value)


def test_an_argument_that_resembles_no_setting_is_refused_without_a_guess() -> None:
    values: dict[str, Any] = {"colour_of_the_sky": "blue"}
    with pytest.raises(ConfigurationError) as caught:
        Settings(**values)
    assert str(caught.value) == "Settings has no argument 'colour_of_the_sky'"


def test_isolated_settings_read_neither_environment_nor_dotenv_nor_secret_files(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AUTHAPI_PORT", "9001")
    secret = tmp_path / "secret"
    secret.write_text("s" * 40)
    monkeypatch.setenv("AUTHAPI_SECRET_FILE", str(secret))
    (tmp_path / ".env").write_text("AUTHAPI_HOST=0.0.0.0\n")
    settings = Settings.isolated(jwt_lifetime=timedelta(minutes=3))
    assert (settings.port, settings.host, settings.secret) == (8000, "127.0.0.1", None)
    assert settings.jwt_lifetime == timedelta(minutes=3)
    assert Settings().host == "0.0.0.0"


def test_isolated_settings_are_checked_as_others_are(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValidationError):
        Settings.isolated(port=70000)
    with pytest.raises(ConfigurationError, match="did you mean port"):
        Settings.isolated(prot=1)
    monkeypatch.setenv("AUTHAPI_SECRET", "x" * 40)
    with pytest.raises(ValidationError, match="production needs AUTHAPI_SECRET"):
        Settings.isolated(env="production")
    assert Settings().secret is not None
