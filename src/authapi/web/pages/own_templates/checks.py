"""Checks at the start what an operator has configured for the pages."""

import traceback
from pathlib import Path

from authapi.errors import ConfigurationError
from authapi.web.context import Runtime
from authapi.web.pages.site import TEMPLATES, Site, site_in


def check_pages(runtime: Runtime) -> None:
    """Checks the files of the operator, if there are any, and if there are pages. Blocks.

    Raises as `check_site`.
    """
    settings = runtime.services.settings
    is_changed = (
        settings.page_templates
        or settings.brand_css
        or settings.brand_logo
        or settings.page_locales
    )
    if is_changed and not runtime.units.isdisjoint({"pages", "signin", "account", "console"}):
        check_site(site_in(runtime))


def check_site(site: Site) -> None:
    """Reads what the operator has configured, and renders each template in each language.

    Raises ConfigurationError, which names what cannot be used.
    """
    site.check_files()
    for language in site.languages.offered:
        for path in sorted(TEMPLATES.glob("*.html")):
            _check_template(site, path.stem, language)


def _check_template(site: Site, name: str, language: str) -> None:
    from authapi.web.pages.own_templates.examples import examples  # noqa: PLC0415  # only for own files

    file = f"{name}.html"
    try:
        template = site.template(file, language)
        for values in examples(site, name, language):
            template.render(values)
    except Exception as error:  # a template of the operator may raise any exception
        problem = f"the page template {_place(error, file)}: {_reason(error)}"
        raise ConfigurationError(problem) from error


def _place(error: Exception, file: str) -> str:
    """Returns the file with the cause of `error`, and the line if it is known.

    The cause may be in a file that the page includes or extends.
    """
    from jinja2 import TemplateSyntaxError  # noqa: PLC0415  # as in `site`

    if isinstance(error, TemplateSyntaxError):
        return f"{error.name or file}, line {error.lineno}"
    # Jinja puts the lines of templates into the traceback.
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if frame.filename.endswith(".html"):
            return f"{Path(frame.filename).name}, line {frame.lineno}"
    return file


def _reason(error: Exception) -> str:
    from jinja2 import UndefinedError  # noqa: PLC0415

    name = type(error).__name__
    return f"{name}: {error.message}" if isinstance(error, UndefinedError) else name
