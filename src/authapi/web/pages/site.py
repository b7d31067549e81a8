"""The pages of one installation: their templates, languages, files and settings."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.requests import HTTPConnection

from authapi.errors import ConfigurationError, PasskeysUnavailable
from authapi.services.factors.webauthn.relying_party import relying_party_of
from authapi.settings import Settings
from authapi.web.context import Runtime, context_of
from authapi.web.documents.files import Asset
from authapi.web.pages.assets import load_assets
from authapi.web.pages.languages import Languages

if TYPE_CHECKING:
    from jinja2 import Environment, Template

TEMPLATES = Path(__file__).parent / "templates"
"""The folder of the templates that are part of the package."""

LIBRARIES = (
    *("babel.dates", "babel.messages.mofile", "babel.messages.pofile", "babel.support"),
    *("jinja2.ext", "jinja2.sandbox", "encodings.unicode_escape"),
    *("authapi.services.mail.compiled_templates", "ua_parser", "ua_parser.loaders"),
)
"""What the first page imports, unless it is imported before."""

PERMISSIONS_POLICY = ", ".join(
    (
        "publickey-credentials-get=(self)",
        "publickey-credentials-create=(self)",
        "clipboard-write=(self)",
        *(
            f"{feature}=()"
            for feature in (
                *("accelerometer", "autoplay", "camera", "display-capture", "encrypted-media"),
                *("fullscreen", "geolocation", "gyroscope", "hid", "idle-detection"),
                *("magnetometer", "microphone", "midi", "payment", "picture-in-picture"),
                *("screen-wake-lock", "serial", "usb", "xr-spatial-tracking"),
            )
        ),
    )
)
"""The features of browsers that the pages use; all others are disabled."""

REFERRER_POLICY = "strict-origin"
"""The referrer is the origin without path and query, so the token in the query does not leak.

With `no-referrer`, the policy of all other responses, browsers would send `Origin: null` with a
form (Fetch, "append a request Origin header"). Over plain HTTP, no other header has the origin.
"""

_LOCALHOST = "http://localhost"


class Site:
    """The pages of one installation.

    Nothing is read before the first use, because most processes show no page.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.languages = Languages(settings)
        self._environments: dict[str, Environment] = {}

    @cached_property
    def assets(self) -> Mapping[str, Asset]:
        """The files of the pages. Raises ConfigurationError if one cannot be used."""
        return load_assets(self._settings)

    @cached_property
    def csp(self) -> str:
        """The Content-Security-Policy: files and forms of the same origin, no inline script.

        Chromium applies `form-action` to the redirect after a form too, so it has the origins to
        which a sign-in may lead.
        """
        home = self._settings.home_url
        targets = ["'self'", *self._settings.allowed_return_origins]
        if home is not None and not home.startswith("/"):
            targets.append("/".join(home.split("/", 3)[:3]))
        return (
            "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; "
            f"connect-src 'self'; form-action {' '.join(dict.fromkeys(targets))}; "
            "base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
            "trusted-types 'none'"
        )

    @cached_property
    def passkey_origins(self) -> str:
        """The origins whose pages may use passkeys; `http://localhost` stands for all its ports.

        The script asks for no passkey at another one: the API would refuse it.
        """
        try:
            party = relying_party_of(self._settings)
        except PasskeysUnavailable:
            return ""
        return " ".join(sorted(party.origins) + [_LOCALHOST] * party.allows_localhost)

    @property
    def name(self) -> str:
        """The name of the service for people."""
        return self._settings.service_name

    def check_files(self) -> None:
        """Reads what the operator has configured. Raises ConfigurationError, which names a file."""
        own = self._settings.page_templates
        if own is not None and not own.is_dir():
            raise ConfigurationError(f"AUTHAPI_PAGE_TEMPLATES is not a folder: {own}")
        self.languages.check()
        self.assets  # noqa: B018  # reads the files

    def template(self, name: str, language: str) -> "Template":
        """Returns a template, with the texts of an offered language."""
        return self._environment(language).get_template(name)

    def text(self, sentence: str, language: str, **values: object) -> str:
        """Returns a sentence in an offered language, with `values` for its placeholders."""
        found: str = self.languages.catalogue(language).gettext(sentence)
        return found % values if values else found

    def plural(self, one: str, many: str, number: int, language: str) -> str:
        """Returns the sentence for this `number`, in an offered language."""
        found: str = self.languages.catalogue(language).ngettext(one, many, number)
        return found % {"num": number}

    def _environment(self, language: str) -> "Environment":
        if language not in self._environments:
            self._environments[language] = self._new_environment(language)
        return self._environments[language]

    def _new_environment(self, language: str) -> "Environment":
        from jinja2 import FileSystemLoader, StrictUndefined  # noqa: PLC0415  # as babel
        from jinja2.sandbox import SandboxedEnvironment  # noqa: PLC0415

        from authapi.services.mail.compiled_templates import COMPILED_PAGES  # noqa: PLC0415

        own = self._settings.page_templates
        environment = SandboxedEnvironment(
            loader=FileSystemLoader([TEMPLATES] if own is None else [own, TEMPLATES]),
            undefined=StrictUndefined,
            autoescape=True,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
            bytecode_cache=COMPILED_PAGES,
            extensions=["jinja2.ext.i18n"],
        )
        environment.policies["ext.i18n.trimmed"] = True
        # The extension of jinja2 adds this method at run time.
        install = environment.install_gettext_translations  # type: ignore[attr-defined]
        install(self.languages.catalogue(language), newstyle=True)
        return environment


def site_of(connection: HTTPConnection) -> Site:
    """Returns the pages of the installation that handles a request."""
    return site_in(context_of(connection).runtime)


def site_in(runtime: Runtime) -> Site:
    """Returns the pages of an installation."""
    if not isinstance(runtime.site, Site):
        runtime.site = Site(runtime.services.settings)
    return runtime.site
