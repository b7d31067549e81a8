"""Times in mails, in words of the language of the reader."""

from datetime import UTC, datetime

LIBRARIES = ("babel.dates",)
"""What `time_in_words` imports at its first call."""
_SPACES = str.maketrans({"\u202f": " ", "\u00a0": " "})
"""Narrow and fixed spaces, which would make a mail in English need a transfer encoding."""


def time_in_words(at: datetime, language: str) -> str:
    """Returns a time to the minute, in UTC, such as `March 4, 2026, 5:06 AM UTC`.

    A language that Babel does not know, such as that of a folder of the operator, gets
    `2026-03-04 05:06 UTC`.
    """
    from babel import Locale, UnknownLocaleError  # noqa: PLC0415  # few processes send mail
    from babel.dates import format_date, format_time, get_datetime_format  # noqa: PLC0415

    at = at.astimezone(UTC)
    try:
        locale = Locale.parse(language, sep="-")
    except (ValueError, UnknownLocaleError):
        return f"{at:%Y-%m-%d %H:%M} UTC"
    # The time zone stays the same in all languages: a few translate it to an abbreviation that
    # readers do not know.
    day, hour = format_date(at, "long", locale=locale), format_time(at, "short", locale=locale)
    both = str(get_datetime_format("long", locale=locale)).replace("'", "")
    return f"{both.replace('{0}', hour).replace('{1}', day)} UTC".translate(_SPACES)
