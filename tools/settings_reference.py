"""Writes docs/settings.md from the docstrings and defaults of the settings."""

from itertools import groupby
from pathlib import Path

from authapi.settings.descriptions import Described, reference

PATH = Path(__file__).parents[1] / "docs" / "settings.md"
_HEAD = """\
# Settings

Each setting is a variable of the environment, or a line of the file `.env` in the current folder.
`AUTHAPI_SECRET`, `AUTHAPI_DATABASE_URL`, `AUTHAPI_DATABASE_DIRECT_URL`, `AUTHAPI_REDIS_URL`,
`AUTHAPI_MAIL_URL` and `AUTHAPI_WEBHOOK_SECRET` can be in a file that the variable with `_FILE` at
its end names. An empty value is none. Durations are seconds, or like `90s`, `1h 30m`, `14d` and
`PT1H`.

`authapi config` prints the values in effect, `authapi config --changed` those that differ from
their defaults, and `authapi config --env` an `.env` file with all defaults.
`python tools/settings_reference.py` writes this page.
"""


def page() -> str:
    """Returns the text of the page."""
    parts = [_HEAD]
    for group, found in groupby(reference(), key=lambda it: it.group):
        parts.append(f"\n## {_title(group)}\n\n| variable | default | meaning |\n|---|---|---|\n")
        parts += [_row(it) for it in found]
    return "".join(parts)


def _title(group: str) -> str:
    title = group.removeprefix("Settings of ").replace(", and of ", " and ")
    title = {"All settings of an issuer": "operation"}.get(title, title)
    return title[:1].upper() + title[1:]


def _row(it: Described) -> str:
    default = f"`{it.default}`" if it.default else ""
    text = it.text.replace("|", "\\|")
    return f"| `{it.variable}` | {default} | {text} |\n"


if __name__ == "__main__":
    PATH.write_text(page(), encoding="utf-8")
