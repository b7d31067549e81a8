"""Problems of settings in words."""

import pytest

from authapi.errors import ConfigurationError
from authapi.settings import load_settings


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("port", "canary", "must be a whole number"),
        ("port", "99999", "must be at most 65535"),
        ("workers", "0", "must be at least 1"),
        ("docs", "canary", "must be true or false"),
        ("env", "canary", "must be development or production"),
        ("session_idle", "canary", "must be a duration: a number of seconds, or like 90s"),
        ("session_idle", "0", "must be more than 0 seconds"),
        ("session_idle", "99999d", "must be at most 36525 days"),
        ("body_timeout", "0", "must be more than 0"),
        ("limit_mails", "canary", "must be a rate such as 10/minute or 100/2 hours"),
        ("table_prefix", "1canary", "must match ^[a-z_][a-z0-9_]*$"),
        ("secret", "canary", "must have at least 32 characters"),
    ],
)
def test_a_problem_is_in_words_without_the_value(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str
) -> None:
    monkeypatch.setenv(f"AUTHAPI_{name.upper()}", value)
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    assert str(caught.value).startswith(f"AUTHAPI_{name.upper()}: {words}")
    assert "canary" not in str(caught.value)
