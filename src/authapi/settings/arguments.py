"""The arguments of `Settings(...)` in code: their names are checked, and they can stand alone."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from difflib import get_close_matches

from authapi.errors import ConfigurationError

_only_arguments: ContextVar[bool] = ContextVar("authapi_only_arguments", default=False)


@contextmanager
def only_arguments() -> Iterator[None]:
    """Settings that are built inside the block read no environment, `.env` file or secret file."""
    token = _only_arguments.set(True)
    try:
        yield
    finally:
        _only_arguments.reset(token)


def reads_only_arguments() -> bool:
    """Returns whether the settings that are being built are isolated from the environment."""
    return _only_arguments.get()


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
