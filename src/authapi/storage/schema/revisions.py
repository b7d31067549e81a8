"""The migrations of this installation, and the schemas beside which its code may run.

The name of a revision is its number, and after `_beside_` that of the oldest code that may use the
schema: code at 0005 runs beside `0007_beside_0005`, and not beside `0008_beside_0006`. A revision
without the second number admits its own code only. The database holds the name, so code that does
not know a revision reads from it whether it may run, and one statement changes both.

All functions raise ConfigurationError if the installation has no chain of migrations.
"""

import re
from functools import cache
from pathlib import Path

from authapi.errors import ConfigurationError

_BESIDE = "_beside_"
_REVISIONS = re.compile(r'^(revision|down_revision)\b[^=]*= *"(\w+)"', re.MULTILINE)
"""In a migration: its revision, and that of the migration before it, which the first one lacks."""


@cache
def head() -> str:
    """Returns the revision that this code needs. Reads the migrations once in a process."""
    heads = _revisions()[0]
    if len(heads) != 1:
        wrong = "its migrations are not one chain" if heads else "it has no migrations"
        raise ConfigurationError(f"the installation is damaged: {wrong}")
    return min(heads)


@cache
def earlier() -> frozenset[str]:
    """Returns the revisions before `head`."""
    return _revisions()[1]


def _revisions() -> tuple[frozenset[str], frozenset[str]]:
    """Returns the revisions that no migration follows, and the others."""
    own, followed = set[str](), set[str]()
    for path in (folder() / "versions").glob("*.py"):
        for name, revision in _REVISIONS.findall(path.read_text(encoding="utf-8")):
            (own if name == "revision" else followed).add(revision)
    return frozenset(own - followed), frozenset(followed)


def folder() -> Path:
    """Returns the folder of the migrations."""
    # In the wheel, the migrations are inside the package; in a checkout, at the top of the project.
    package = Path(__file__).parents[2]
    candidates = (package / "alembic", package.parents[1] / "alembic")
    found = next((path for path in candidates if (path / "env.py").is_file()), None)
    if found is None:
        raise ConfigurationError("the installation is damaged: its migrations are missing")
    return found


def number(revision: str) -> str:
    """Returns the number of a revision."""
    return revision.partition(_BESIDE)[0]


def oldest_code(revision: str) -> str:
    """Returns the number of the oldest code that may use a schema at `revision`."""
    return revision.partition(_BESIDE)[2] or revision


def require_usable(revision: str | None) -> None:
    """Checks that this code may use a schema at `revision`; None is that of an empty database.

    A newer one is usable if it only adds to what this code needs, as its name says. Raises
    ConfigurationError, with a hint, if the schema is too old, or too new.
    """
    needed = head()
    if revision is None or revision in earlier():
        raise ConfigurationError(
            f"the database schema is at {revision or 'nothing'}, this version needs {needed}",
            hint="run `authapi db upgrade`",
        )
    oldest = oldest_code(revision)
    if revision != needed and oldest not in {number(own) for own in (needed, *earlier())}:
        raise ConfigurationError(
            f"the database schema is at {revision}, which code before {oldest} cannot use, and this"
            f" version is at {number(needed)}",
            hint="start a newer release, or run `authapi db downgrade` of one",
        )


def is_newer(revision: str | None) -> bool:
    """Returns whether a schema that `require_usable` accepts is newer than this code."""
    return revision is not None and revision != head()
