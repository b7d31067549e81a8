"""Finds names that are not settings, which are probably misspelled.

Variables `AUTHAPI_*` of the environment are not an error, because an older release must start with
the settings of a newer one.
"""

import logging
import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches

from pydantic_settings import BaseSettings, DotEnvSettingsSource, EnvSettingsSource

from authapi.errors import ConfigurationError
from authapi.settings.federation.variables import similar_variables

_log = logging.getLogger("authapi.settings")

_PREFIX = "AUTHAPI_"
_MAX_NAME_LENGTH = 80
_KUBERNETES_SERVICE = re.compile(
    r"(SERVICE_(HOST|PORT(_.*)?)|PORT_\d+_(TCP|UDP|SCTP)(_.*)?)", re.ASCII
)
"""Variables that Kubernetes sets for a Service named `authapi`."""
_reported = set[str]()


def find_unknown_variables(kinds: Iterable[type[BaseSettings]]) -> Mapping[str, str | None]:
    """Returns variables of the environment and of `.env` that no class of `kinds` reads.

    The value is the most similar name of a setting, or None. Values of variables are not read.
    """
    known, present = set[str](), set[str]()
    for kind in kinds:
        known.update(_variables_of(kind))
        for source in (EnvSettingsSource(kind), DotEnvSettingsSource(kind)):
            present.update(name.upper() for name in source.env_vars)
    known.update(similar_variables(present))
    return {
        name: next(iter(get_close_matches(name, sorted(known), n=1, cutoff=0.75)), None)
        for name in sorted(present - known)
        if name.startswith(_PREFIX)
        and not _KUBERNETES_SERVICE.fullmatch(name.removeprefix(_PREFIX))
    }


def check_names(given: Iterable[str], known: Iterable[str]) -> None:
    """Checks that each argument is a setting.

    Raises ConfigurationError with the most similar name of a setting, if there is one. An unknown
    variable of the environment is a warning only; an argument is written for this version.
    """
    names = sorted(known)
    problems = []
    for name in sorted(set(given) - set(names)):
        nearest = get_close_matches(name.lower().removeprefix("authapi_"), names, n=1, cutoff=0.7)
        hint = f": did you mean {nearest[0]}?" if nearest else ""
        problems.append(f"Settings has no argument {name[:80]!r}{hint}")
    if problems:
        raise ConfigurationError("; ".join(problems))


def describe(name: str, nearest: str | None) -> str:
    """Returns a warning. The name is not trusted: it is cut and reduced to printable ASCII."""
    shown = "".join(c if c.isprintable() and c.isascii() else "?" for c in name[:_MAX_NAME_LENGTH])
    text = f"{shown} is not a setting and has no effect"
    return text if nearest is None else f"{text}: did you mean {nearest}?"


def warn_once(lines: Mapping[str, str], *, silently: bool) -> None:
    """Logs each of `lines`, keyed by variable, once per process. `silently` only marks them."""
    for name, line in lines.items():
        if name not in _reported and not silently:
            _log.warning(line)
        _reported.add(name)


def _variables_of(kind: type[BaseSettings]) -> Iterable[str]:
    for name, field in kind.model_fields.items():
        yield f"{_PREFIX}{name.upper()}"
        if "SecretStr" in str(field.annotation):
            yield f"{_PREFIX}{name.upper()}_FILE"
