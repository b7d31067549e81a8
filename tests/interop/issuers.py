"""Third-party issuers, and their algorithms that `RemoteJWT` verifies."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from tests.servers import oidc_provider

HERE = Path(__file__).parent
LOGINS = Path(oidc_provider.__file__).parent
"""The folder of the provider of logins."""

ALGORITHMS = (
    *("ES256", "ES384", "ES512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("EdDSA", "Ed25519"),
)

Test = TypeVar("Test", bound=Callable[..., Any])

_verified: dict[str, tuple[str, ...]] = {}


def verifies(software: str, *algorithms: str) -> Callable[[Test], Test]:
    """Marks a test in which `RemoteJWT` verifies tokens of `software`, by each of `algorithms`."""
    if not set(algorithms) <= set(ALGORITHMS):
        raise ValueError(f"there is no column for some of {algorithms}")
    _verified[software] = algorithms
    return lambda test: test


def versions() -> Mapping[str, str]:
    """Returns the issuers from npm with the versions in the tests."""
    manifest = json.loads((HERE / "provider" / "package.json").read_text(encoding="utf-8"))
    return {f"{name} (Node.js)": pin for name, pin in manifest["dependencies"].items()}


def section() -> str:
    """Returns the section of `docs/interop.md` about issuers."""
    rows = [("issuer", "version", *ALGORITHMS), ("---",) * (len(ALGORITHMS) + 2)]
    for name, number in versions().items():
        marks = ("yes" if column in _verified[name] else "" for column in ALGORITHMS)
        rows.append((name, number, *marks))
    table = "\n".join("| " + " | ".join(cells) + " |" for cells in rows)
    return f"""\
## Tokens of other issuers

`RemoteJWT` ([verify.md](verify.md)) verifies JWT access tokens of these issuers, over HTTP, in
these algorithms. Tokens signed with HS256, HS384 or HS512 are refused.

{table}

{_logins()}"""


def _logins() -> str:
    """Returns the section about logins at providers. A test uses each client."""
    manifest = json.loads((LOGINS / "package.json").read_text(encoding="utf-8"))
    names = {"rs256": "RS256", "es256": "ES256", "ps256": "PS256", "eddsa": "EdDSA"}
    signed = [names[client] for client in oidc_provider.CLIENTS]
    rows = [("provider", "version", *signed, "query", "form_post"), ("---",) * (len(signed) + 4)]
    for name, number in manifest["dependencies"].items():
        rows.append((f"{name} (Node.js)", number, *("yes" for _ in signed), "yes", "yes"))
    table = "\n".join("| " + " | ".join(cells) + " |" for cells in rows)
    return f"""\
## Logins at other providers

ID tokens of this provider are verified in these algorithms ([federation.md](federation.md)). People
log in with those in RS256, ES256 and EdDSA in Chromium, and with answers in these modes.
oidc-provider-mock of PyPI answers as a provider with few checks. Google, Microsoft, Apple, GitHub,
Kakao and Naver are tested with answers as their documentation has them, not with the services
themselves.

{table}
"""
