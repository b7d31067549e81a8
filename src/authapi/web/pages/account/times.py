"""Times and dates as pages show them without a script."""

from datetime import datetime


def long_date(at: datetime, language: str) -> str:
    """Returns the day of a time (UTC) in an offered language, such as `23 November 2026`."""
    from babel.dates import format_date  # noqa: PLC0415  # as in `languages`

    return format_date(at.date(), "long", locale=language.replace("-", "_"))
