"""Client authentication at the OAuth endpoints (RFC 6749, section 2.3).

A client is a personal access token: its id is the `client_id`, and the token itself is the
`client_secret`. A request sends them in the header Authorization (`client_secret_basic`) or in the
form (`client_secret_post`), but not in both.
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
from authapi.domain.identity import Identity
from authapi.domain.session import SessionKind
from authapi.errors import InvalidClient, InvalidCredential, InvalidTokenRequest, Unauthenticated
from authapi.strategies.base import REALM, Challenge, Strategy, read_authorization
from authapi.web.challenges import build_challenges
from authapi.web.context import Runtime, context_of
from authapi.web.media_types import is_form
from authapi.web.requirements import Binding, Requirements
from authapi.web.resolver import IdentityGate
from authapi.web.routes.oauth.forms import Form, oauth_form, parsed_form

METHODS = ("client_secret_basic", "client_secret_post")
"""The supported methods, with the names of the metadata (RFC 7591, section 2)."""

_CLIENT_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_TOKEN = SessionKind.TOKEN.value


class ClientCredentials(NamedTuple):
    """The id and secret of a client."""

    id: str
    secret: str


class ClientSecretStrategy(Strategy[ClientCredentials]):
    """Authenticates a client by its id and secret. `ClientGate` parses the form before."""

    name = "client_secret"
    kept_by_browsers = True

    def read(self, connection: HTTPConnection) -> ClientCredentials | None:
        if read_authorization(connection) is not None:
            return _from_header(connection)
        return _from_form(parsed_form(connection))

    async def authenticate(
        self, credential: ClientCredentials, connection: HTTPConnection
    ) -> Identity:
        _check_single_method(connection, credential)
        if not is_opaque_token(credential.secret):
            raise InvalidCredential
        identity = await self.services.sessions.identify_by_secret(
            hash_secret(credential.secret), SessionKind.TOKEN, strategy=_TOKEN
        )
        if identity is None or not _matches(identity, credential):
            raise InvalidCredential
        return identity

    def challenge(self) -> Challenge:
        return Challenge("Basic", {"realm": REALM, "charset": "UTF-8"})

    def openapi(self) -> Mapping[str, object]:
        return {
            "type": "http",
            "scheme": "basic",
            "description": "The id of a personal access token as user name and the token as "
            "password, each form-encoded (RFC 6749, section 2.3.1). The form can contain them "
            "instead, as `client_id` and `client_secret`.",
        }


class ClientGate(IdentityGate):
    """A gate for clients, with id and secret, and for callers with the configured strategies."""

    def bind(self, runtime: Runtime) -> Binding:
        binding = super().bind(runtime)
        # This strategy must be the first: `basic` would take a client id for an e-mail address.
        if has_clients(runtime) and not isinstance(binding.strategies[0], ClientSecretStrategy):
            clients = ClientSecretStrategy(runtime.services)
            binding = runtime.bindings[self] = replace(
                binding,
                strategies=(clients, *binding.strategies),
                challenges=build_challenges((*binding.strategies, clients), runtime),
            )
        return binding

    async def __call__(self, connection: HTTPConnection) -> Identity:
        """Return the identity of the client or caller.

        Raises InvalidClient if client authentication fails, InvalidTokenRequest if the request uses
        two methods of client authentication, and as `current_identity`.
        """
        context = context_of(connection)
        if has_clients(context.runtime) and _may_have_client(connection):
            await _parse_form(connection)
        try:
            identity = await super().__call__(connection)
        except Unauthenticated:
            if not await _uses_client_authentication(connection):
                raise
            # RFC 6749, section 5.2: the challenge matches the scheme that the client used.
            context.challenges = tuple(sorted(context.challenges or (), key=_is_not_basic))
            raise InvalidClient from None
        if identity is None:
            raise Unauthenticated
        return identity


def client_gate(*scopes: str) -> ClientGate:
    """A gate for clients and callers that have all of `scopes`."""
    return ClientGate(Requirements(scopes=tuple(sorted(scopes))))


def has_clients(runtime: Runtime) -> bool:
    """Whether this installation has personal access tokens, and so OAuth clients."""
    return _TOKEN in runtime.registry


def require_one_method(connection: HTTPConnection, form: Form) -> None:
    """Raises InvalidTokenRequest if both the form and the header contain a credential.

    RFC 6749, section 2.3, allows one method of client authentication in each request.
    """
    if form.get("client_secret") and read_authorization(connection) is not None:
        raise InvalidTokenRequest("Two methods of client authentication")


def _check_single_method(connection: HTTPConnection, credentials: ClientCredentials) -> None:
    form = parsed_form(connection)
    require_one_method(connection, form)
    if form.get("client_id", credentials.id) not in ("", credentials.id):
        raise InvalidTokenRequest("client_id does not match the Authorization header")


def _from_form(form: Form) -> ClientCredentials | None:
    secret = form.get("client_secret")
    # RFC 6749, section 3.1: a parameter without a value is treated as omitted.
    return ClientCredentials(form.get("client_id", ""), secret) if secret else None


async def _parse_form(connection: HTTPConnection) -> Form:
    if isinstance(connection, Request) and is_form(connection):
        return await oauth_form(connection)
    return {}


def _may_have_client(connection: HTTPConnection) -> bool:
    """Whether the header has a client, or the form may have one because there is no header."""
    return read_authorization(connection) is None or _from_header(connection) is not None


async def _uses_client_authentication(connection: HTTPConnection) -> bool:
    header = read_authorization(connection)
    if header is not None:
        return header.scheme == "basic"
    return _from_form(await _parse_form(connection)) is not None


def _from_header(connection: HTTPConnection) -> ClientCredentials | None:
    """The client of the header Authorization.

    Returns None if the header is missing or has no client id, but for example an e-mail address.
    """
    header = read_authorization(connection)
    if header is None or header.scheme != "basic":
        return None
    try:
        client_id, _, secret = (
            base64.b64decode(header.credential, validate=True).decode().partition(":")
        )
        # RFC 6749, section 2.3.1: both parts are form-encoded.
        credentials = ClientCredentials(
            unquote_plus(client_id, errors="strict"), unquote_plus(secret, errors="strict")
        )
    except (binascii.Error, ValueError):
        return None
    return credentials if _CLIENT_ID.fullmatch(credentials.id) else None


def _is_not_basic(challenge: Challenge) -> bool:
    return challenge.scheme != "Basic"


def _matches(identity: Identity, credentials: ClientCredentials) -> bool:
    # `amr` is empty only for personal access tokens. The token of a login is not a client.
    return not identity.amr and str(identity.session_id) == credentials.id.lower()
