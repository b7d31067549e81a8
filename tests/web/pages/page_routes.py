"""The routes of the pages, from the application, so that tests cover new ones."""

import re
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from fastapi.routing import iter_route_contexts

FILES = frozenset({"page.css", "console.css", "theme.css", "ui.js", "passkeys.js", "logo", "icon"})
_PAGES = "authapi.web.routes.pages."
_CONSOLE = f"{_PAGES}console."
ID = str(UUID(int=7 << 76 | 2 << 62))
"""An id of no row."""


def page_paths(app: Any, method: str = "GET") -> Sequence[str]:
    """The paths of all pages, or of all forms with `POST`. An id in a path is one of no row.

    Those of the console are left out.
    """
    found = _paths(app, method, _PAGES) - _paths(app, method, _CONSOLE)
    return sorted(path for path in found if path.rpartition("/")[2] not in FILES)


def console_paths(app: Any, method: str = "GET") -> Sequence[str]:
    """The paths of all pages of the console, or of all its forms with `POST`."""
    return sorted(_paths(app, method, _CONSOLE))


def _paths(app: Any, method: str, package: str) -> set[str]:
    return {
        re.sub(r"\{[^}]+\}", ID, str(route.path))
        for route in iter_route_contexts(app.routes)
        if str(getattr(route.endpoint, "__module__", "")).startswith(package)
        and method in (route.methods or ())
    }
