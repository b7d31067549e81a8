"""What software that we have not written does with us, as the tests beside this show it."""

import json
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from tests.interop import issuers

HERE = Path(__file__).parent
DOCUMENT = HERE.parents[1] / "docs" / "interop.md"

COLUMNS = (
    "metadata",
    "verify ES256",
    "verify RS256",
    "after a rotation",
    "password",
    "refresh",
    "revoke",
    "introspect",
)
_HOSTS = frozenset({"express"})
"""Modules of npm that only run others."""
PYTHON: Mapping[str, str] = {"Authlib": "authlib", "PyJWT": "pyjwt", "joserfc": "joserfc"}
"""Software from PyPI, with the name of its distribution."""

Test = TypeVar("Test", bound=Callable[..., Any])

_done: dict[str, set[str]] = {}


def does(software: str, *what: str) -> Callable[[Test], Test]:
    """Marks a test that shows `software` doing `what`, in words of `COLUMNS`."""
    if not set(what) <= set(COLUMNS):
        raise ValueError(f"there is no column for some of {what}")
    _done.setdefault(software, set()).update(what)
    return lambda test: test


def versions() -> Mapping[str, str]:
    """The software, each in the version that the tests run."""
    found = {name: version(distribution) for name, distribution in PYTHON.items()}
    manifest = json.loads((HERE / "node" / "package.json").read_text(encoding="utf-8"))
    pinned = (HERE / "fastmcp" / "requirements.txt").read_text(encoding="utf-8")
    found["FastMCP"] = pinned.strip().partition("==")[2]
    modules = {name: pin for name, pin in manifest["dependencies"].items() if name not in _HOSTS}
    return found | {f"{name} (Node.js)": pin for name, pin in modules.items()}


def document() -> str:
    """What `docs/interop.md` has to be."""
    rows = [("software", "version", *COLUMNS), ("---",) * (len(COLUMNS) + 2)]
    for name, number in versions().items():
        marks = ("yes" if column in _done[name] else "" for column in COLUMNS)
        rows.append((name, number, *marks))
    table = "\n".join("| " + " | ".join(cells) + " |" for cells in rows)
    return f"""\
# Interoperability

What software that nobody here wrote does with a running `authapi serve`, over HTTP, as the tests in
[tests/interop](../tests/interop) show it. An empty cell is what that software is not for.

{table}

A client of one's own needs nothing but the addresses in `/.well-known/oauth-authorization-server`;
[tokens.md](tokens.md) has them with curl.

Clients that want an id and a secret to introspect with get those of a personal access token with
the scope `introspect`: its id is the client id, the token the secret. To refresh and to revoke, any
id does. express-oauth2-jwt-bearer runs in its strict mode, Authlib with its validator of RFC 9068.

Authlib's `AuthorizationServerMetadata.validate()` refuses an empty `response_types_supported`. RFC
8414 wants the member to be there, and there is no response type: nobody is redirected here.

{issuers.section()}
Made by `AUTHAPI_WRITE_DOCS=1 make test ARGS=tests/interop/test_table.py`.
"""
