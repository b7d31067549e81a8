"""Client authentication at the OAuth endpoints (RFC 6749, section 2.3).

A client is a personal access token: its id is the `client_id`, the token itself the
`client_secret`. Both come in the Authorization header (`client_secret_basic`) or in the form
(`client_secret_post`), never in both.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple
from urllib.parse import unquote_plus

from starlette.requests import HTTPConnection, Request

from authapi.crypto.secrets import hash_secret, is_opaque_token
from authapi.errors import InvalidClient, InvalidCredential, InvalidTokenRequest, Unauthenticated
from authapi.identity import Identity, SessionKind
from authapi.strategies.base import REALM, Challenge, Strategy, Unknown, authorization
from authapi.web.challenges import challenges_of
from authapi.web.context import Runtime, context_of
from authapi.web.media_types import is_form
from authapi.web.requirements import Binding, Requirements
from authapi.web.resolver import IdentityGate
from authapi.web.routes.oauth.forms import Form, oauth_form

METHODS = ("client_secret_basic", "client_secret_post")
"""The names of the methods in the metadata (RFC 7591, section 2)."""

_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_TOKEN = SessionKind.TOKEN.value


class ClientCredentials(NamedTuple):
    """What a client proves itself by."""

    id: str
    secret: str


class ClientSecretStrategy(Strategy):
    """Recognises a client by its id and secret."""

    name = "client_secret"
    kept_by_browsers = True

    async def authenticate(self, connection: HTTPConnection) -> Identity | None:
        presented = _basic(connection)
        if presented is not None:
            await _require_no_other(connection, presented)
        elif authorization(connection) is None:
            presented = await _posted(connection)
        if presented is None:
            return None
        if not is_opaque_token(presented.secret):
            raise InvalidCredential
        identity = await self.services.sessions.identify_secret(
            hash_secret(presented.secret), SessionKind.TOKEN, strategy=_TOKEN
        )
        if identity is None or not _is_of(identity, presented):
            raise InvalidCredential
        return identity

    def recall(self, connection: HTTPConnection) -> Identity | Unknown | None:
        # Who sends another scheme is left to the strategies after this one; a form is not read yet.
        sent = authorization(connection)
        return None if sent is not None and sent.scheme != "basic" else Unknown.ASK

    def challenge(self) -> Challenge:
        return Challenge("Basic", {"realm": REALM, "charset": "UTF-8"})

    def openapi(self) -> Mapping[str, object]:
        return {
            "type": "http",
            "scheme": "basic",
            "description": "The id of a personal access token and the token, each encoded as a "
            "form value (RFC 6749, section 2.3.1); or both in the form, as `client_id` and "
            "`client_secret`.",
        }


class ClientGate(IdentityGate):
    """A gate that lets clients in by id and secret, besides the callers that the settings know."""

    def bind(self, runtime: Runtime) -> Binding:
        found = super().bind(runtime)
        # The strategy is asked first, before `basic` reads an address where a client has its id.
        if has_clients(runtime) and not isinstance(found.strategies[0], ClientSecretStrategy):
            clients = ClientSecretStrategy(runtime.services)
            found = runtime.bindings[self] = replace(
                found,
                strategies=(clients, *found.strategies),
                challenges=challenges_of((*found.strategies, clients), runtime),
            )
        return found

    async def __call__(self, connection: HTTPConnection) -> Identity:
        """The calling client or caller. Raises InvalidClient for client authentication that fails,
        InvalidTokenRequest for two methods at once, and as `current_identity`.
        """
        try:
            identity = await super().__call__(connection)
        except Unauthenticated:
            if not await _attempts(connection):
                raise
            context = context_of(connection)
            # RFC 6749, section 5.2: the challenge names the scheme that the client has used.
            context.challenges = tuple(sorted(context.challenges or (), key=_is_not_basic))
            raise InvalidClient from None
        if identity is None:
            raise Unauthenticated
        return identity


def client_gate(*scopes: str) -> ClientGate:
    """A gate for clients and callers that hold `scopes`."""
    return ClientGate(Requirements(scopes=tuple(sorted(scopes))))


def has_clients(runtime: Runtime) -> bool:
    """Whether a personal access token is a credential in this installation."""
    return _TOKEN in runtime.registry


def require_one_method(connection: HTTPConnection, form: Form) -> None:
    """Raises InvalidTokenRequest for a secret in the form beside a credential in the header
    (RFC 6749, section 2.3).
    """
    if form.get("client_secret") and authorization(connection) is not None:
        raise InvalidTokenRequest("Two methods of client authentication")


async def _require_no_other(connection: HTTPConnection, presented: ClientCredentials) -> None:
    form = await _form(connection)
    require_one_method(connection, form)
    if form.get("client_id", presented.id) not in ("", presented.id):
        raise InvalidTokenRequest("client_id is not that of the Authorization header")


async def _posted(connection: HTTPConnection) -> ClientCredentials | None:
    form = await _form(connection)
    secret = form.get("client_secret")
    # RFC 6749, section 3.1: without a value it counts as left out.
    return ClientCredentials(form.get("client_id", ""), secret) if secret else None


async def _form(connection: HTTPConnection) -> Form:
    if isinstance(connection, Request) and is_form(connection):
        return await oauth_form(connection)
    return {}


async def _attempts(connection: HTTPConnection) -> bool:
    sent = authorization(connection)
    if sent is not None:
        return sent.scheme == "basic"
    return await _posted(connection) is not None


def _basic(connection: HTTPConnection) -> ClientCredentials | None:
    """The client of the Authorization header; None for an address and password, or for neither."""
    sent = authorization(connection)
    if sent is None or sent.scheme != "basic":
        return None
    try:
        text = base64.b64decode(sent.credential, validate=True).decode()
        # RFC 6749, section 2.3.1: each part is form-encoded before the two are joined.
        found = ClientCredentials(*(unquote_plus(part, errors="strict") for part in _halves(text)))
    except (binascii.Error, ValueError):
        return None
    return found if _ID.fullmatch(found.id) else None


def _halves(text: str) -> tuple[str, str]:
    name, _, secret = text.partition(":")
    return name, secret


def _is_not_basic(challenge: Challenge) -> bool:
    return challenge.scheme != "Basic"


def _is_of(identity: Identity, presented: ClientCredentials) -> bool:
    # `amr` is empty for a personal access token only: a login is no client.
    return not identity.amr and str(identity.session_id) == presented.id.lower()
