"""docs/settings.md is what tools/settings_reference.py writes."""

from tools.settings_reference import PATH, page

from authapi.settings import Settings


def test_the_page_is_up_to_date() -> None:
    assert PATH.read_text(encoding="utf-8") == page(), "run python tools/settings_reference.py"


def test_the_page_has_every_setting_once() -> None:
    text = PATH.read_text(encoding="utf-8")
    for name in Settings.model_fields:
        assert text.count(f"| `AUTHAPI_{name.upper()}` |") == 1
