"""The languages of the pages: which ones an installation offers, and which one a reader gets.

The texts are gettext catalogues, `locale/<language>/LC_MESSAGES/authapi.po`, whose ids are the
English sentences. They are compiled in memory when the first page in the language is shown. An
operator adds languages, or other wording, in the folder of the setting `page_templates`.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from authapi.errors import ConfigurationError
from authapi.settings import Settings

if TYPE_CHECKING:
    from babel.support import NullTranslations

LOCALE_FOLDER = Path(__file__).parent / "locale"
"""The folder of the catalogues that are part of the package."""
DEFAULT = "en"
"""The language of the ids."""
_DOMAIN = "authapi"
_MAX_HEADER = 1000


class Languages:
    """The languages that an installation offers on its pages."""

    def __init__(self, settings: Settings) -> None:
        own = settings.page_templates
        self._folders = [LOCALE_FOLDER] if own is None else [own / "locale", LOCALE_FOLDER]
        self._wanted = settings.page_locales
        self._locales = settings.locales
        self._catalogues: dict[str, NullTranslations] = {}

    @cached_property
    def offered(self) -> tuple[str, ...]:
        """The tags of the languages; the first is the default."""
        found = tuple(tag for tag in self._wanted or self._locales if self._has(tag))
        return found or (DEFAULT,)

    @cached_property
    def names(self) -> Mapping[str, str]:
        """The name of each language, in that language."""
        return {tag: _language_name(tag) for tag in self.offered}

    def check(self) -> None:
        """Reads each catalogue. Raises ConfigurationError for one that is missing or malformed."""
        for tag in self._wanted:
            if not self._has(tag):
                raise ConfigurationError(
                    f"AUTHAPI_PAGE_LOCALES has {tag}, but there is no locale/{tag}/LC_MESSAGES/"
                    f"{_DOMAIN}.po in AUTHAPI_PAGE_TEMPLATES"
                )
        for tag in self.offered:
            self.catalogue(tag)
        self.names  # noqa: B018  # a tag that Babel does not know fails here

    def catalogue(self, tag: str) -> "NullTranslations":
        """Returns the texts in an offered language. Raises ConfigurationError if it is malformed.

        A text that the folder of the operator lacks is that of the package.
        """
        if tag not in self._catalogues:
            self._catalogues[tag] = self._read(tag)
        return self._catalogues[tag]

    def preferred(self, accept_language: str | None) -> str:
        """Returns the offered language that a client prefers (RFC 9110, section 12.5.4).

        `accept_language` is the header Accept-Language.
        """
        ranked: list[tuple[float, str]] = []
        for item in (accept_language or "")[:_MAX_HEADER].split(","):
            tag, _, weight = item.strip().partition(";")
            try:
                quality = float(weight.strip().removeprefix("q=") or 1)
            except ValueError:
                continue
            if tag and quality > 0:
                ranked.append((quality, tag.strip()))
        # Python sorts equal qualities in the order of the header.
        for _, tag in sorted(ranked, key=lambda pair: -pair[0]):
            if (found := self.offered_as(tag)) is not None:
                return found
        return self.offered[0]

    def offered_as(self, tag: str | None) -> str | None:
        """Returns the offered language for `tag`, such as `ko` for `ko-KR`; None without one.

        It is the lookup of RFC 4647, section 3.4. Babel's `negotiate_locale` returns `zh` for
        `zh-Hant-TW` even if `zh-Hant` is offered.
        """
        parts = (tag or "").lower().split("-")
        by_tag = {offered.lower(): offered for offered in self.offered}
        for length in range(len(parts), 0, -1):
            if (found := by_tag.get("-".join(parts[:length]))) is not None:
                return found
        return None

    def _has(self, tag: str) -> bool:
        return any(self._files(tag))

    def _files(self, tag: str) -> Sequence[Path]:
        """Returns the catalogues of a language, those of the operator first."""
        names = (f"{_DOMAIN}.mo", f"{_DOMAIN}.po")
        folders = [folder / tag / "LC_MESSAGES" for folder in self._folders]
        return [
            next(path for path in paths if path.is_file())
            for paths in ([folder / name for name in names] for folder in folders)
            if any(path.is_file() for path in paths)
        ]

    def _read(self, tag: str) -> "NullTranslations":
        from babel.support import NullTranslations  # noqa: PLC0415

        found = NullTranslations()
        for path in reversed(self._files(tag)):
            try:
                translations = _compiled(path)
            except Exception as error:  # a file of the operator may be anything
                raise ConfigurationError(f"the catalogue {path}: {type(error).__name__}") from error
            translations.add_fallback(found)
            found = translations
        return found


def language_names(tags: Iterable[str]) -> Mapping[str, str]:
    """Returns the name of each language, in that language; the tag of one that is unknown."""
    from babel import UnknownLocaleError  # noqa: PLC0415

    names = {}
    for tag in tags:
        try:
            names[tag] = _language_name(tag)
        except (ValueError, UnknownLocaleError):
            names[tag] = tag
    return names


def _language_name(tag: str) -> str:
    from babel import Locale  # noqa: PLC0415  # imported on first use: most processes never render a page

    name = Locale.parse(tag, sep="-").get_display_name()
    return tag if name is None else name[:1].upper() + name[1:]


def _compiled(path: Path) -> "NullTranslations":
    from babel.messages.mofile import write_mo  # noqa: PLC0415
    from babel.messages.pofile import read_po  # noqa: PLC0415
    from babel.support import Translations  # noqa: PLC0415

    if path.suffix == ".mo":
        with path.open("rb") as file:
            return Translations(file)
    compiled = BytesIO()
    with path.open("rb") as file:
        write_mo(compiled, read_po(file, abort_invalid=True))
    compiled.seek(0)
    return Translations(compiled)
