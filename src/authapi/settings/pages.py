"""Settings of the pages: which ones there are, their looks, their languages, where they lead."""

import re
from collections.abc import Sequence
from email.utils import parseaddr
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator

from authapi.settings.credentials import FactorSettings
from authapi.settings.field_types import FilePath, Names, Networks, Origins
from authapi.settings.mail import is_locale
from authapi.settings.values.urls import page_url_parts

MAX_LOGO_BYTES = 65536
"""Maximum size of the file of `brand_logo`."""
MAX_CSS_BYTES = 65536
"""Maximum size of the file of `brand_css`."""
_MAX_NAME_LENGTH = 60
_COLOUR = re.compile(r"#[0-9a-f]{6}")


def _check_brand_name(value: str | None) -> str | None:
    if value is not None and not (value.isprintable() and value.strip()):
        raise ValueError("must be a line of text")
    if value is not None and len(value) > _MAX_NAME_LENGTH:
        raise ValueError(f"must have at most {_MAX_NAME_LENGTH} characters")
    return None if value is None else value.strip()


def _check_colour(value: str) -> str:
    lower = value.lower()
    if not _COLOUR.fullmatch(lower):
        raise ValueError("must be a colour such as #0b57d0")
    return lower


def _check_page_locales(value: tuple[str, ...]) -> tuple[str, ...]:
    if not all(map(is_locale, value)):
        raise ValueError("must be language tags such as en, ko or pt-BR (RFC 5646)")
    return value


def _check_page_url(value: str | None) -> str | None:
    if value is not None and page_url_parts(value) is None:
        raise ValueError("must be an https URL, or http on this machine")
    return value


def _check_support_url(value: str | None) -> str | None:
    if value is not None and value.startswith("mailto:"):
        if "@" not in value or not value.isascii() or not value.isprintable() or " " in value:
            raise ValueError("must be an https URL, or mailto: and an address")
        return value
    return _check_page_url(value)


def _check_home_url(value: str | None) -> str | None:
    is_path = value is not None and re.fullmatch(r"/(?![/\\])[!-\[\]-~]*", value) is not None
    if value is not None and not is_path and page_url_parts(value) is None:
        raise ValueError("must be a path such as /account, or an https URL")
    return value


PageURL = Annotated[str | None, AfterValidator(_check_page_url)]
"""The URL of a page of the application or of the operator."""


class PageSettings(FactorSettings):
    """Settings of the pages."""

    pages: Literal["all", "mail", "none"] = "all"
    """Which pages there are. `mail`: only those of the links in mails. An application also chooses
    by the units of routes that it installs."""
    brand_name: Annotated[str | None, AfterValidator(_check_brand_name)] = None
    """Name of the service on pages and in mails. Default: the name in `mail_from`, or the host of
    `public_url`."""
    brand_logo: FilePath | None = None
    """SVG or PNG file of the logo on pages, 64 KiB at most. Default: the name alone."""
    brand_colour: Annotated[str, AfterValidator(_check_colour)] = "#0b57d0"
    """Colour of buttons, as `#rrggbb`. Lighter and darker ones for links and for dark screens are
    derived from it, so that text stays readable."""
    brand_css: FilePath | None = None
    """CSS file that follows the stylesheet of the pages, 64 KiB at most."""
    page_templates: FilePath | None = None
    """Folder with templates that replace built-in ones of the same name, such as `elements.html`,
    and with languages: `locale/<language>/LC_MESSAGES/authapi.po` or `.mo`."""
    page_locales: Annotated[Names, AfterValidator(_check_page_locales)] = ()
    """Languages of the pages. The first is the default. Default: those of `locales` that the pages
    have."""
    home_url: Annotated[str | None, AfterValidator(_check_home_url)] = None
    """Where a login leads if the link to it names no page, and the name of the service on pages: a
    path or an https URL. Default: the page `/account`."""
    return_origins: Origins = ()
    """Other origins to which a login may lead back. Default: `allowed_origins`."""
    sign_in_link: PageURL = None
    """Page of your application for logins, if the built-in one is not installed."""
    console_networks: Networks = ()
    """Networks (CIDR) from which the console can be opened; for other addresses it does not exist.
    Then it does not exist either for a request that a proxy has forwarded which `trusted_proxies`
    does not name, since its address is unknown. Default: no bound."""
    terms_url: PageURL = None
    """Terms of use, linked on pages."""
    privacy_url: PageURL = None
    """Privacy policy, linked on pages."""
    support_url: Annotated[str | None, AfterValidator(_check_support_url)] = None
    """Page or `mailto:` address for help, linked on pages."""

    @property
    def service_name(self) -> str:
        """The name of this service for people."""
        name, address = parseaddr(self.mail_from)
        return self.brand_name or name or urlsplit(self.issuer).hostname or address

    @property
    def allowed_return_origins(self) -> Sequence[str]:
        """The other origins to which a login may lead back."""
        return self.return_origins or self.allowed_origins
