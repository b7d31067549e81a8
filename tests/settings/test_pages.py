"""Settings of pages: refused in one line, and their defaults."""

import pytest

from authapi.errors import ConfigurationError
from authapi.settings import Settings, load_settings


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("brand_colour", ["red", "#fff", "#12345g", "0b57d0", "#0b57d0;}"]),
        ("brand_name", ["a\nb", " ", "x" * 61]),
        ("page_locales", ["../etc", "en_US"]),
        (
            "home_url",
            ["account", "//evil.example", "/\\evil.example", "javascript:x", "http://a.b"],
        ),
        ("return_origins", ["https://a.example/", "*"]),
        ("sign_in_link", ["/login", "http://a.example", "https://a@b.example"]),
        ("terms_url", ["javascript:alert(1)", "https://a b"]),
        ("support_url", ["mailto:", "tel:1"]),
        ("pages", ["some"]),
    ],
)
def test_impossible_values_are_refused_in_one_line(name: str, values: list[str]) -> None:
    for value in values:
        with pytest.raises(ConfigurationError) as caught:
            load_settings({name: value})
        assert str(caught.value).startswith(f"AUTHAPI_{name.upper()}: ")
        assert "\n" not in str(caught.value)


def test_defaults() -> None:
    settings = Settings.isolated(allowed_origins=("https://a.example",), brand_colour="#FFCC00")
    assert settings.allowed_return_origins == ("https://a.example",)
    assert settings.brand_colour == "#ffcc00"
    assert settings.service_name == "authapi"
    assert Settings.isolated(brand_name=" Acme ").service_name == "Acme"
    others = Settings.isolated(return_origins=("https://b.example",))
    assert others.allowed_return_origins == ("https://b.example",)
