"""Messages that forms leave for the next page."""

from pathlib import Path

import pytest

import authapi.web.routes.pages.account as handlers
from authapi import Settings
from authapi.web.pages.account.flashes import COUNTED, FLASHES, PROBLEMS, Flash
from authapi.web.pages.site import Site


def test_each_message_is_left_by_a_form() -> None:
    folder = Path(str(handlers.__file__)).parent.parent
    source = "".join(path.read_text() for path in folder.rglob("*.py"))
    assert [code for code in FLASHES if f'"{code}"' not in source] == []
    assert COUNTED.keys() | PROBLEMS <= FLASHES.keys()


@pytest.mark.parametrize(
    ("flash", "english", "korean"),
    [
        (Flash("devices-ended"), "All other devices", "다른 모든 기기에서"),
        (Flash("devices-ended", 1), "1 other device is", "다른 기기 1대에서"),
        (Flash("devices-ended", 7), "7 other devices are", "다른 기기 7대에서"),
        # A code without sentences for numbers has one sentence.
        (Flash("name", 7), "Your name is saved.", "이름을"),
    ],
)
def test_a_message_can_have_a_number(flash: Flash, english: str, korean: str) -> None:
    site = Site(Settings.isolated())
    assert flash.text(site, "en").startswith(english)
    assert flash.text(site, "ko").startswith(korean)
