"""How a person looks at the pages: script, width of the screen, colours and language."""

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

from babel.messages.catalog import Catalog
from babel.messages.pofile import read_po

from authapi.web.pages.languages import LOCALE_FOLDER
from tests.pairwise import ALL, pairs, product

DIMENSIONS: dict[str, Sequence[Any]] = {
    "script": (True, False),
    "width": (1280, 390),
    "scheme": ("light", "dark"),
    "language": ("en", "ko"),
}


class Look(NamedTuple):
    """What of a browser a journey depends on."""

    script: bool = True
    width: int = 1280
    scheme: Any = "light"
    language: str = "en"

    def __str__(self) -> str:
        script = "script" if self.script else "no-script"
        return f"{script}-{self.width}-{self.scheme}-{self.language}"

    def word(self, sentence: str, **values: object) -> str:
        """The text of a page in this language, whose id is the English sentence."""
        message = catalogue(self.language).get(sentence)
        text = message.string if message is not None else ""
        assert isinstance(text, str)
        return (text or sentence) % values if values else text or sentence

    def plural(self, sentence: str, number: int) -> str:
        """The text of a page with a number, whose id is the English sentence for one."""
        message = catalogue(self.language).get(sentence)
        assert message is not None
        assert isinstance(message.string, tuple)
        ids = message.string if any(message.string) else message.id
        return str(ids[-1] if number != 1 else ids[0]) % {"num": number}


@cache
def catalogue(language: str) -> Catalog:
    """The texts of the pages."""
    path = LOCALE_FOLDER / language / "LC_MESSAGES" / "authapi.po"
    with path.open("rb") as file:
        return read_po(file, locale=language)


def rows(journeys: Sequence[str], needs_script: frozenset[str]) -> list[tuple[str, Look]]:
    """Each journey with looks: every pair of values, or all of them (`make test-matrix`)."""
    dimensions = {"journey": journeys, **DIMENSIONS}
    combined = product(dimensions, list(dimensions)) if ALL else pairs(dimensions)
    found = dict[tuple[str, Look], None]()
    for row in combined:
        journey = row.pop("journey")
        found[journey, Look(**{**row, "script": row["script"] or journey in needs_script})] = None
    return sorted(found)
