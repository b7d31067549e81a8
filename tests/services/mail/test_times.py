"""Times in mails, in each language."""

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from babel import Locale

from authapi.crypto.ids import new_id
from authapi.domain.outbox import OutboxEntry
from authapi.services.mail.kinds import MailKind
from authapi.services.mail.rendering import MailRenderer, example_payload, time_in_words
from tests.conftest import SettingsFactory

AT = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
_AM = Locale.parse("ko").day_periods["format"]["abbreviated"]["am"]
"""AM in the data of older versions of Babel, and the Korean word in newer ones."""
KOREAN = f"2026년 3월 4일 {_AM} 5:06 UTC"


@pytest.mark.parametrize(
    ("language", "words"),
    [
        ("en", "March 4, 2026, 5:06 AM UTC"),
        ("en-GB", "4 March 2026, 05:06 UTC"),
        ("ko", KOREAN),
        ("de", "4. März 2026, 05:06 UTC"),
        ("fr", "4 mars 2026, 05:06 UTC"),
        ("tlh", "2026-03-04 05:06 UTC"),
        ("not a tag", "2026-03-04 05:06 UTC"),
        ("", "2026-03-04 05:06 UTC"),
    ],
)
def test_a_time_is_in_the_words_of_the_language(language: str, words: str) -> None:
    assert time_in_words(AT, language) == words


def test_a_time_of_another_zone_is_shown_in_utc() -> None:
    seoul = AT.astimezone(timezone(timedelta(hours=9)))
    assert time_in_words(seoul, "en") == time_in_words(AT, "en")


@pytest.mark.parametrize(
    ("locale", "words"),
    [("en", "March 4, 2026, 5:06 AM UTC"), ("ko", KOREAN)],
)
def test_mails_have_times_in_their_language(
    make_settings: SettingsFactory, locale: str, words: str
) -> None:
    text, page = _bodies(MailRenderer(make_settings()), locale)
    assert words in text
    assert words in page


def test_a_mail_in_english_needs_no_transfer_encoding(make_settings: SettingsFactory) -> None:
    text, _ = _bodies(MailRenderer(make_settings()), "en")
    assert text.isascii()


def test_templates_of_the_operator_have_times_in_their_language(
    make_settings: SettingsFactory, tmp_path: Path
) -> None:
    (tmp_path / "de").mkdir()
    (tmp_path / "de" / "token_created.txt").write_text("Subject: x\n\nAm {{ at | time }}.\n")
    (tmp_path / "de" / "token_created.html").write_text("<p>{{ at | time }}, {{ locale }}</p>")
    renderer = MailRenderer(make_settings(mail_templates=tmp_path, locales=("de", "en")))
    text, page = _bodies(renderer, "de")
    assert text.strip() == "Am 4. März 2026, 05:06 UTC."
    assert page.strip() == "<p>4. März 2026, 05:06 UTC, de</p>"


def _bodies(renderer: MailRenderer, locale: str) -> tuple[str, str]:
    entry = OutboxEntry(new_id(), "mail", MailKind.TOKEN_CREATED.value, None, b"", AT, AT, AT)
    message = renderer.render(entry, {**example_payload(locale), "at": AT.isoformat()})
    text, page = message.get_body(("plain",)), message.get_body(("html",))
    assert text is not None
    assert page is not None
    return text.get_content(), page.get_content()
