"""Bring the catalogues of the pages in line with the sentences in the templates and in the code.

Usage: `python tools/catalogues.py [--check]`. It adds new ids to each `authapi.po`, without a text,
and removes those that no page has. With `--check` it changes nothing, and exits with 1 if a
catalogue has other ids, or another language than English lacks a text.
"""

import argparse
import sys
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.pofile import read_po, write_po
from jinja2.ext import babel_extract

from authapi.web.pages import texts
from authapi.web.pages.account import device_names, event_texts, flashes
from authapi.web.pages.languages import LOCALE_FOLDER
from authapi.web.pages.site import TEMPLATES

KEYWORDS = ("_", "gettext", "ngettext")
OPTIONS = {"trimmed": "true", "trim_blocks": "true", "lstrip_blocks": "true"}

Ids = set[str | tuple[str, str]]


def ids() -> Ids:
    """Returns the ids of all texts; a pair is a sentence for one and for many."""
    modules = (texts, event_texts, device_names, flashes)
    found: Ids = {sentence for module in modules for sentence in module.sentences()}
    for path in sorted(TEMPLATES.glob("*.html")):
        source = BytesIO(path.read_bytes())
        for _, _, message, _ in babel_extract(source, KEYWORDS, [], OPTIONS):
            if isinstance(message, str):
                found.add(message)
            elif message is not None:
                one, many = str(message[0]), message[1]
                found.add(one if many is None else (one, str(many)))
    return found


def key_of(message_id: str | Sequence[str]) -> str:
    """Returns the id by which catalogues sort and find a text: that for one."""
    return message_id if isinstance(message_id, str) else message_id[0]


def read(path: Path) -> Catalog:
    """Returns a catalogue."""
    with path.open("rb") as file:
        return read_po(file, locale=path.parts[-3])


def updated(old: Catalog, wanted: Ids) -> Catalog:
    """Returns the catalogue with the `wanted` ids, and the texts of `old` for them."""
    new = Catalog(locale=old.locale, header_comment=old.header_comment, fuzzy=False)
    for message_id in sorted(wanted, key=key_of):
        known = old.get(key_of(message_id))
        if known is not None and known.id == message_id:
            new.add(message_id, known.string)
        else:
            new.add(message_id)
    return new


def problems(path: Path, wanted: Ids) -> list[str]:
    """Returns what is wrong with the catalogue at `path`."""
    catalogue = read(path)
    present = {message.id: message for message in catalogue if message.id}
    found = [f"{path}: no id {key_of(item)!r}" for item in wanted if item not in present]
    found += [f"{path}: unused id {key_of(item)!r}" for item in present if item not in wanted]
    is_translated = str(catalogue.locale) != "en"
    for message in present.values():
        texts = message.string if isinstance(message.string, tuple | list) else (message.string,)
        if is_translated and not all(texts):
            found.append(f"{path}: no text for {key_of(message.id)!r}")
        found += [f"{path}: {error}" for error in message.check(catalogue)]
    return found


def write(path: Path, catalogue: Catalog) -> None:
    """Writes a catalogue, without dates, so that it changes with its texts only."""
    text = BytesIO()
    write_po(text, catalogue, width=100, omit_header=True, sort_output=True)
    header = f"# {catalogue.locale.display_name if catalogue.locale else ''}\n"
    header += 'msgid ""\nmsgstr ""\n'
    header += f'"Language: {catalogue.locale_identifier}\\n"\n'
    header += '"Content-Type: text/plain; charset=utf-8\\n"\n'
    header += f'"Plural-Forms: {catalogue.plural_forms}\\n"\n\n'
    path.write_text(header + text.getvalue().decode(), encoding="utf-8")


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    is_check = parser.parse_args().check
    paths = sorted(LOCALE_FOLDER.glob("*/LC_MESSAGES/authapi.po"))
    wanted, found = ids(), list[str]()
    for path in paths:
        if is_check:
            found += problems(path, wanted)
        else:
            write(path, updated(read(path), wanted))
    for line in sorted(found):
        print(line, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
