"""Variables that look like settings and are none: probably misspelt.

They are no error: an older release has to start beside the settings of a newer one.
"""

import logging
import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches

from pydantic_settings import BaseSettings, DotEnvSettingsSource, EnvSettingsSource

_log = logging.getLogger("authapi.settings")

_PREFIX = "AUTHAPI_"
_LONGEST_NAME = 80
_OF_KUBERNETES = re.compile(r"(SERVICE_(HOST|PORT(_.*)?)|PORT_\d+_(TCP|UDP|SCTP)(_.*)?)", re.ASCII)
"""Variables of a Kubernetes Service that is called `authapi` (Service, Environment variables)."""
_told = set[str]()


def find_unknown(kinds: Iterable[type[BaseSettings]]) -> Mapping[str, str | None]:
    """Variables of the environment and of `.env` that no class of `kinds` reads.

    With each comes the name that is most like it, or None if none is. Only names are looked at.
    """
    known, given = set[str](), set[str]()
    for kind in kinds:
        known.update(_names(kind))
        for source in (EnvSettingsSource(kind), DotEnvSettingsSource(kind)):
            given.update(name.upper() for name in source.env_vars)
    return {
        name: next(iter(get_close_matches(name, sorted(known), n=1, cutoff=0.75)), None)
        for name in sorted(given - known)
        if name.startswith(_PREFIX) and not _OF_KUBERNETES.fullmatch(name.removeprefix(_PREFIX))
    }


def describe(name: str, nearest: str | None) -> str:
    """One line for people. The name comes from the environment, and is shortened and made plain."""
    shown = "".join(c if c.isprintable() and c.isascii() else "?" for c in name[:_LONGEST_NAME])
    text = f"{shown} is no setting and has no effect"
    return text if nearest is None else f"{text}: did you mean {nearest}?"


def warn_once(lines: Mapping[str, str], *, silently: bool) -> None:
    """Log `lines`, which have the names of variables before them, unless this process has."""
    for name, line in lines.items():
        if name not in _told and not silently:
            _log.warning(line)
        _told.add(name)


def _names(kind: type[BaseSettings]) -> Iterable[str]:
    for name, field in kind.model_fields.items():
        yield f"{_PREFIX}{name.upper()}"
        if "SecretStr" in str(field.annotation):
            yield f"{_PREFIX}{name.upper()}_FILE"
