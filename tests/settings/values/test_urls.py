"""URLs with an impossible port, host or character are refused by each setting that takes one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authapi import Settings
from authapi.errors import ConfigurationError
from authapi.settings import load_settings
from authapi.settings.values.urls import page_url_parts, split_url

SETTINGS = {
    **dict.fromkeys(("public_url", "breached_passwords_url", "security_link"), "{}/x"),
    **dict.fromkeys(("home_url", "sign_in_link", "terms_url", "privacy_url"), "{}/x"),
    **dict.fromkeys(("support_url", "webhook_urls"), "{}/x"),
    **dict.fromkeys(("allowed_origins", "return_origins", "passkey_origins"), "{}"),
    **dict.fromkeys(
        ("confirm_link", "reset_link", "undo_link", "disown_link", "invitation_link"),
        "{}/x#{{token}}",
    ),
}
"""The settings that take a URL of a web page or service, with what follows the origin in them.
Those of the database, of Redis and of the mail server have other schemes and their own tests."""
IMPOSSIBLE = ("https://x.example:99999", "https://x.example:abc", "https://x.example:0", "https://")


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("origin", IMPOSSIBLE)
def test_an_impossible_port_is_refused_at_the_start(
    name: str, origin: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    suffix = SETTINGS[name]
    monkeypatch.setenv("AUTHAPI_WEBHOOK_SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    monkeypatch.setenv(f"AUTHAPI_{name.upper()}", suffix.format("https://x.example:8443"))
    load_settings()
    monkeypatch.setenv(f"AUTHAPI_{name.upper()}", suffix.format(origin))
    with pytest.raises(ConfigurationError, match=f"AUTHAPI_{name.upper()}"):
        load_settings()


def test_every_setting_with_a_url_is_tried() -> None:
    ends = ("_url", "_urls", "_link", "_origins")
    others = {"database_url", "database_direct_url", "redis_url", "mail_url"}
    named = {name for name in Settings.model_fields if name.endswith(ends)}
    assert named - others == SETTINGS.keys()


@given(st.text(max_size=30) | st.from_regex(r"https?://[a-z.:0-9@\\[\\]]{0,20}", fullmatch=True))
def test_a_url_that_is_accepted_has_a_host_and_a_port_that_exist(text: str) -> None:
    parts = page_url_parts(text)
    if parts is not None:
        assert parts.hostname
        assert parts.port is None or 0 < parts.port < 65536
        assert parts.username is None
        assert split_url(text) == parts
