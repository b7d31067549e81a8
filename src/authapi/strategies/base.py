"""Base classes for authentication strategies.

A strategy authenticates requests by one kind of credential. To write one, subclass `Strategy`, with
the type of the credential, and implement `read` and `authenticate`:

    class APIKeyStrategy(Strategy[str]):
        name = "api_key"

        def read(self, connection: HTTPConnection) -> str | None:
            key = bearer_credential(connection)
            return key if key is not None and key.startswith("key_") else None

        async def authenticate(self, credential: str, connection: HTTPConnection) -> Identity:
            ...

For each request, the resolver calls the strategies of the route in order:

1. `read` finds the credential by its shape alone: scheme, prefix, number of segments. It sends no
   query. None means that the request carries no credential of this kind, and the resolver tries the
   next strategy.
2. The resolver looks into the identity cache, if `cache_key` gives a key for the credential;
   otherwise it asks `cached`.
3. `authenticate` verifies the credential and returns the `Identity`.

So a strategy has three answers: not mine (`read` returns None), an `Identity`, or invalid. Both
methods raise `InvalidCredential` for an invalid credential: `read` if it is ambiguous, such as two
cookies of one name, and `authenticate` for every other reason. Then the resolver tries no other
strategy. The response does not contain the reason. Any other exception refuses the request too.

Strategies with credentials of one shape, such as JWTs of several issuers, may not know from `read`
to which of them a credential belongs. `authenticate` then raises `UnrecognizedCredential`, and the
resolver tries the next strategy. It refuses the request if no strategy accepts the credential.

The base class states what a strategy can do:

* `Strategy` authenticates a request.
* `Issuer` also issues a credential after a login, so `POST /login` accepts its name.
* `Revocable` also ends what it issued, so `POST /logout` accepts its credentials.
* `Refreshable` also exchanges refresh tokens, so `POST /token` can use it.
* `Renewable` also replaces the secret of a live session, as after a change of password.

Override `start` and `stop` to open and close resources such as connections to another service. The
lifespan of the application calls both.

Name the class in `AUTHAPI_STRATEGIES` as `module:Class`. The registry loads the built-in strategies
in the same way. `authapi.testing.strategy_contract` is a test suite for strategies, which every
built-in strategy passes. `examples/api_key` is a strategy with its tests.

Storage calls in any of these methods raise StorageUnavailable if the database does not answer. The
client receives 503.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar, Generic, NamedTuple, TypeVar
from uuid import UUID

from starlette.requests import HTTPConnection

from authapi.crypto.secrets import SecretHash
from authapi.domain.identity import Identity
from authapi.services import Login, Services

REALM = "authapi"
_AUTHORIZATION = "authapi.authorization"

C = TypeVar("C")
"""The type of a credential, as `read` returns it."""


@dataclass(frozen=True, slots=True)
class Challenge:
    """A challenge in `WWW-Authenticate` (RFC 9110, section 11.6.1)."""

    scheme: str
    parameters: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        # No value comes from a client. A setting with a quote must not end the string early.
        quoted = (
            f'{name}="{value.translate(_ESCAPES)}"' for name, value in self.parameters.items()
        )
        return f"{self.scheme} {', '.join(quoted)}".rstrip()


_ESCAPES = str.maketrans({'"': '\\"', "\\": "\\\\"})


@dataclass(frozen=True, slots=True)
class Issued:
    """A new credential, as the response carries it: members of the JSON body, and headers."""

    session_id: UUID
    expires_at: datetime
    body: Mapping[str, object] = field(default_factory=dict, repr=False)
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    scopes: frozenset[str] = frozenset()
    """The scopes that the credential grants."""


@dataclass(frozen=True, slots=True)
class Renewal:
    """A new secret for a session: the hash to store, and the response headers that carry it."""

    secret: SecretHash
    headers: tuple[tuple[str, str], ...] = field(repr=False)


class Authorization(NamedTuple):
    """The value of an Authorization header (RFC 9110, section 11.6.2)."""

    scheme: str
    """The text before the first space, in lower case. It is an authentication scheme only if the
    header is well-formed, and empty if the header is empty."""
    credential: str
    """The text after the first space, without surrounding spaces."""


class Strategy(ABC, Generic[C]):
    """Authenticates requests by one kind of credential."""

    name: str
    """The name in routes, settings and the OpenAPI document: snake_case, at most 64 characters."""
    ambient: ClassVar[bool] = False
    """True if browsers attach the credential to every request, as they do with cookies. The
    resolver tries such a strategy after all others, and checks requests for CSRF as it does for
    `kept_by_browsers`."""
    kept_by_browsers: ClassVar[bool] = False
    """True if a browser remembers the credential and attaches it to later requests, also those that
    pages of other origins cause, as it does with HTTP Basic. Unsafe requests and WebSocket
    handshakes with it must come from the origin of this service or an allowed origin."""
    users_are_accounts: ClassVar[bool] = True
    """False if the users of the identities are no accounts of this service, so that the database
    does not know when the credential of an open WebSocket ends."""
    asked_before_body: bool = False
    """Whether the strategy may be asked before the body of a request is read, and again after it.
    True if it does not read the body, and knows a caller the second time at little cost."""
    authorization_server: str | None = None
    """The issuer of the accepted tokens, if it is another service. The protected resource metadata
    list it (RFC 9728, `authorization_servers`)."""

    def __init__(self, services: Services) -> None:
        self.services = services

    async def start(self) -> None:
        """Opens the resources of the strategy, before the first request and in its event loop.

        Raises ConfigurationError if the configuration cannot work. An unreachable backend must not
        raise: the application would not start.
        """
        return

    async def stop(self) -> None:
        """Closes these resources, after the last request. `start` may be called again."""
        return

    @abstractmethod
    def read(self, connection: HTTPConnection) -> C | None:
        """Returns the credential in the request, or None if the request has none of this kind.

        Decides by the shape alone. Raises InvalidCredential if the credential is ambiguous.
        """

    def cache_key(self, credential: C) -> SecretHash | None:
        """Returns the hash under which the identity cache has the credential; None for no cache.

        Return the hash that `authenticate` passes to `services.sessions`, which fills the cache.
        """
        return None

    def cached(self, credential: C) -> Identity | None:
        """Returns the identity of the credential from a cache of the strategy itself, or None.

        Called if `cache_key` returns None. A strategy that works without services can override it.
        None does not mean that the credential is invalid.
        """
        return None

    @abstractmethod
    async def authenticate(self, credential: C, connection: HTTPConnection) -> Identity:
        """Returns the identity of the caller.

        Raises InvalidCredential if the credential is invalid, UnrecognizedCredential if it may
        belong to another strategy, and a subclass of Unavailable if its backend does not answer.
        """

    def discard(self) -> tuple[tuple[str, str], ...]:
        """Returns response headers that make the client delete a credential that has ended.

        Only a strategy whose credential the client stores has any, such as a cookie. `authenticate`
        passes them to InvalidCredential when the credential in the request has ended.
        """
        return ()

    @abstractmethod
    def challenge(self) -> Challenge:
        """Returns the challenge for this credential in a 401 response."""

    @abstractmethod
    def openapi(self) -> Mapping[str, object]:
        """Returns the Security Scheme Object for the OpenAPI document (OpenAPI 3.1)."""


class BearerStrategy(Strategy[str]):
    """A strategy for bearer tokens (RFC 6750) of one shape."""

    def read(self, connection: HTTPConnection) -> str | None:
        token = bearer_credential(connection)
        return token if token is not None and self.has_shape(token) else None

    @abstractmethod
    def has_shape(self, token: str) -> bool:
        """Returns whether `token` has the shape of the tokens of this strategy."""


class Issuer(Strategy[C]):
    """A strategy that issues a credential after a login."""

    @abstractmethod
    async def issue(
        self, login: Login, connection: HTTPConnection, *, remember: bool = False
    ) -> Issued:
        """Issues a credential for a verified login.

        With `remember`, the browser keeps the credential when it closes. Raises InvalidCredentials
        if the account or its password has changed since the login was verified, and Unavailable if
        no key can sign a token.
        """


class Revocable(Issuer[C]):
    """A strategy whose credentials end at logout, at once and in every process."""

    async def revoke(self, identity: Identity) -> tuple[tuple[str, str], ...]:
        """Ends the session of `identity`; returns response headers for the client.

        Does nothing if the session has ended already.
        """
        await self.services.sessions.logout(identity)
        return ()


class Refreshable(Revocable[C]):
    """A strategy that issues refresh tokens with its credentials (RFC 6749, section 6)."""

    @abstractmethod
    async def refresh(self, refresh_token: str, *, scopes: Collection[str] | None) -> Issued:
        """Exchanges a refresh token for a new credential and the next refresh token.

        `scopes` limits the scopes of the credential; None keeps all of them. Raises InvalidGrant if
        the refresh token is unknown, expired or used already, InvalidScope if `scopes` has one that
        the session does not have, and Unavailable if no key can sign a token.
        """


class Renewable(Revocable[C]):
    """A strategy that can replace the secret of a live session."""

    @abstractmethod
    def renew(self, identity: Identity) -> Renewal:
        """Generates a new secret for the session of `identity`. The caller has to store its hash.

        The client keeps the new secret as long as it would have kept the old one.
        """


def bearer_credential(connection: HTTPConnection) -> str | None:
    """Returns the bearer token in the Authorization header (RFC 6750, section 2.1), or None."""
    authorization = read_authorization(connection)
    if authorization is None or authorization.scheme != "bearer":
        return None
    return authorization.credential


def read_authorization(connection: HTTPConnection) -> Authorization | None:
    """Returns the parsed Authorization header, or None if the request has none.

    An empty header is not None. A request has at most one: `RequestMiddleware` refuses others.
    """
    scope = connection.scope
    try:
        authorization: Authorization | None = scope[_AUTHORIZATION]
    except KeyError:
        # Parsed once for all strategies.
        value = read_header(connection, b"authorization")
        authorization = scope[_AUTHORIZATION] = _parse_authorization(value)
    return authorization


def read_header(connection: HTTPConnection, name: bytes) -> str | None:
    """Returns the value of the header field `name` (in lower case), or None.

    The values of several field lines are joined with commas (RFC 9110, section 5.3). A list keeps
    its meaning. A field that allows one value only becomes a text that equals no valid value.
    """
    # `connection.headers` would build an object of all headers for each request.
    joined: bytes | None = None
    for field_name, value in connection.scope["headers"]:
        if field_name == name:
            joined = value if joined is None else joined + b", " + value
    return None if joined is None else joined.decode("latin-1")


def _parse_authorization(text: str | None) -> Authorization | None:
    if text is None:
        return None
    scheme, _, credential = text.partition(" ")
    return Authorization(scheme.lower(), credential.strip(" "))
