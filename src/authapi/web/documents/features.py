"""Removes the operations of features that the settings switch off from the OpenAPI document.

Their routes stay: they refuse requests and say why.
"""

import re
from collections.abc import Iterator, Sequence

from authapi.services.factors.webauthn.relying_party import can_add_passkeys, is_available
from authapi.settings import Settings
from authapi.strategies.base import Refreshable
from authapi.web.answers.descriptions import Document
from authapi.web.context import Runtime

_REFERENCE = re.compile(r"'#/components/schemas/([^']+)'")
_ADD_PASSKEYS = (
    "POST /me/factors/passkeys",
    "POST /me/factors/passkeys/options",
    "POST /login/enrolment/passkey",
    "POST /login/enrolment/passkey/options",
)
_ADD_APPS = (
    "POST /me/factors/totp",
    "POST /me/factors/totp/confirm",
    "POST /login/enrolment/totp",
    "POST /login/enrolment/totp/confirm",
)
_PROVE_PASSKEYS = (
    "POST /login/second-factor/options",
    "POST /me/reauthenticate/options",
)
_INVITE = (
    "POST /admin/users",
    "POST /admin/users/{user_id}/invitation",
    "POST /admin/users/{user_id}/reset-link",
)
_PASSKEY_LOGIN = ("POST /login/passkey", "POST /login/passkey/options")


def omit_disabled(
    document: Document,
    own_operations: dict[tuple[str, str], Document],
    runtime: Runtime,
    *,
    without_strategy: Sequence[Document],
) -> None:
    """Removes what is switched off from `document` and `own_operations`, with its schemas.

    The operations `without_strategy` are no longer in them; their schemas go too.
    """
    if not isinstance(runtime.settings, Settings):
        return  # a resource server has none of these features
    disabled = set(_disabled(runtime.settings, runtime))
    removed = [*without_strategy]
    for method, path in list(own_operations):
        if f"{method} {path.removeprefix(runtime.settings.prefix)}" in disabled:
            removed.append(own_operations.pop((method, path)))
            del document["paths"][path][method.lower()]
            if not document["paths"][path]:
                del document["paths"][path]
    _remove_schemas(document, removed)


def _disabled(settings: Settings, runtime: Runtime) -> Iterator[str]:
    if settings.registration not in {"open", "confirm"}:
        yield "POST /register"
    if not settings.sends_mail:  # `app` leaves out the other routes that need mail
        yield from _INVITE
    if settings.mfa == "off":
        yield from _ADD_APPS
    if not can_add_passkeys(settings):
        yield from _ADD_PASSKEYS
    if not is_available(settings):
        yield from _PROVE_PASSKEYS
    if not is_available(settings) or settings.passkeys == "second_factor":
        yield from _PASSKEY_LOGIN
    if not any(isinstance(strategy, Refreshable) for strategy in runtime.registry):
        yield "POST /token"


def _remove_schemas(document: Document, removed: list[Document]) -> None:
    """Removes the schemas that only the `removed` operations referred to, directly or not."""
    schemas: Document = document["components"]["schemas"]
    waiting = {name for operation in removed for name in _references(operation)}
    while waiting:
        unused = waiting - set(_references(document))
        waiting = {
            name
            for schema in unused
            if schema in schemas
            for name in _references(schemas.pop(schema))
        }


def _references(part: Document) -> list[str]:
    return _REFERENCE.findall(str(part))
