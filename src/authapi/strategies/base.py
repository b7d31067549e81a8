"""The contract of a strategy, and how to write one.

A strategy reads one kind of credential from a connection. Asked to `authenticate`, it has three
answers:

* an `Identity`: this is who is calling;
* None: there is no credential of my kind here, so another strategy may be asked;
* it raises `InvalidCredential`: there is one, it is mine, and it is not good. Nobody else is asked,
  and the caller learns no reason.

So a strategy must tell its own kind by shape alone (a scheme, a prefix, a number of segments),
before it asks anything of a database. Anything else that it raises refuses the request as well.

What a strategy can do is its type:

* `Strategy` recognises a caller;
* `Issuer` also turns a proved login into a credential, so `POST /login` can name it;
* `Revocable` can also end what it issued, so `POST /logout` accepts it;
* `Refreshable` can also give another credential for a refresh token, so `POST /token` accepts it;
* `Renewable` can also replace the secret of a session in use, when a password changes.

What needs opening before the first request, such as connections to somebody else, is opened by
`start` and closed by `stop`; the lifespan of the application calls both.

To write one, subclass the least of these that fits, in one file anywhere importable, and name it in
`AUTHAPI_STRATEGIES` as `module:Class` among the others. The built-in ones come through the same
door. `tests/strategies/contract.py` is the suite that each of them passes, and yours can too.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import ClassVar, NamedTuple
from uuid import UUID

from starlette.requests import HTTPConnection

from authapi.crypto.secrets import SecretHash
from authapi.identity import Identity
from authapi.services import Login, Services

REALM = "authapi"
_AUTHORIZATION = "authapi.authorization"


@dataclass(frozen=True, slots=True)
class Challenge:
    """One challenge of `WWW-Authenticate` (RFC 9110, section 11.6.1)."""

    scheme: str
    parameters: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        # Values are ours, never a caller's; still a quote must not end the string early.
        quoted = (
            f'{name}="{value.translate(_ESCAPES)}"' for name, value in self.parameters.items()
        )
        return f"{self.scheme} {', '.join(quoted)}".rstrip()


_ESCAPES = str.maketrans({'"': '\\"', "\\": "\\\\"})


@dataclass(frozen=True, slots=True)
class Issued:
    """A credential on its way to the client: members of the JSON body, and headers."""

    session_id: UUID
    expires_at: datetime
    body: Mapping[str, object] = field(default_factory=dict, repr=False)
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    scopes: frozenset[str] = frozenset()
    """What the credential may do."""


@dataclass(frozen=True, slots=True)
class Renewal:
    """Another secret for a session: what to store, and the headers that hand it over."""

    secret: SecretHash
    headers: tuple[tuple[str, str], ...] = field(repr=False)


class Authorization(NamedTuple):
    """What an Authorization header says (RFC 9110, section 11.6.2)."""

    scheme: str
    """What stands before the first space, in lower case: a scheme only if the header is
    well-formed. Empty if the header is."""
    credential: str
    """What follows, without spaces around it."""


class Unknown(Enum):
    """Memory cannot tell; `authenticate` can."""

    ASK = "ask"


class Strategy(ABC):
    """Recognises callers by one kind of credential."""

    name: str
    """By which routes, settings and the OpenAPI document know it: snake_case."""
    ambient: ClassVar[bool] = False
    """True if the credential comes along with requests that nobody meant it for, as cookies do: it
    is asked after all that a caller sends on purpose. It is `kept_by_browsers` as well."""
    kept_by_browsers: ClassVar[bool] = False
    """True if a browser that once had the credential sends it by itself from then on, also for
    pages of others, as it does with what was typed for HTTP Basic: unsafe requests and WebSockets
    that it authenticates must come from our own pages or an allowed origin."""
    authorization_server: str | None = None
    """The issuer whose tokens it accepts, if that is not ourselves: clients learn by it where to go
    for one (RFC 9728, `authorization_servers`)."""

    def __init__(self, services: Services) -> None:
        self.services = services

    async def start(self) -> None:
        """Open what `authenticate` needs, before the first request and in its event loop.

        Raises ConfigurationError for what can never work; what is only away must not raise.
        """
        return

    async def stop(self) -> None:
        """Close that, after the last request. It may be started again."""
        return

    @abstractmethod
    async def authenticate(self, connection: HTTPConnection) -> Identity | None:
        """Who is calling, None if this credential is absent, or InvalidCredential."""

    def recall(self, connection: HTTPConnection) -> Identity | Unknown | None:
        """What memory says of a caller, asked first because it costs next to nothing.

        An Identity and None mean what they mean from `authenticate`. Anything in doubt is
        `Unknown.ASK`, which is all that a strategy without a memory ever says.
        """
        return Unknown.ASK

    def discard(self) -> tuple[tuple[str, str], ...]:
        """Response headers by which a client drops a credential that has just ended.

        For what clients keep by themselves, as browsers do with cookies. Where `authenticate` finds
        a dead one, it hands them over with InvalidCredential.
        """
        return ()

    @abstractmethod
    def challenge(self) -> Challenge:
        """What a 401 says to invite this credential."""

    @abstractmethod
    def openapi(self) -> Mapping[str, object]:
        """The Security Scheme Object of the OpenAPI document."""


class Issuer(Strategy):
    """A strategy that a login can end in."""

    @abstractmethod
    async def issue(
        self, login: Login, connection: HTTPConnection, *, remember: bool = False
    ) -> Issued:
        """A new credential for a proved login; with `remember`, one that outlives the browser."""

    @property
    @abstractmethod
    def issues(self) -> Mapping[str, str]:
        """The members that `Issued.body` adds to the answer of a login, each with its meaning."""


class Revocable(Issuer):
    """A strategy whose credentials a logout ends, at once and everywhere."""

    async def revoke(self, identity: Identity) -> tuple[tuple[str, str], ...]:
        """End the credential that `identity` was read from; headers that tell the client so."""
        await self.services.sessions.logout(identity)
        return ()


class Refreshable(Revocable):
    """A strategy that gives refresh tokens along with its credentials (RFC 6749, section 6)."""

    @abstractmethod
    async def refresh(self, refresh_token: str, *, scopes: Collection[str] | None) -> Issued:
        """A new credential for the login behind a refresh token, with the token that follows it.

        `scopes` may only narrow; None means all. Raises InvalidGrant, InvalidScope.
        """


class Renewable(Revocable):
    """A strategy whose secret can be replaced while its session lives on."""

    @abstractmethod
    def renew(self, identity: Identity) -> Renewal:
        """Another secret for the session of `identity`, not stored yet.

        The client keeps it for as long as it would have kept the one that `identity` came with.
        """


def bearer_credential(connection: HTTPConnection) -> str | None:
    """What follows `Bearer` in the Authorization header (RFC 6750, section 2.1), or None."""
    found = authorization(connection)
    return None if found is None or found.scheme != "bearer" else found.credential


def authorization(connection: HTTPConnection) -> Authorization | None:
    """The Authorization header, or None if there is none; one without a value is not None.

    There is at most one: the edge refuses several.
    """
    scope = connection.scope
    try:
        found: Authorization | None = scope[_AUTHORIZATION]
    except KeyError:
        # Read once for all strategies.
        found = scope[_AUTHORIZATION] = _parsed(header(connection, b"authorization"))
    return found


def header(connection: HTTPConnection, name: bytes) -> str | None:
    """The value of the field `name`, which is in lower case, or None.

    Several lines of one field are joined with commas (RFC 9110, section 5.3): a list is the same
    list then, and what may stand there only once is a value that nothing equals. Costs no object
    for all headers, as `connection.headers` would, and no exception for one that is not there.
    """
    joined: bytes | None = None
    for found, value in connection.scope["headers"]:
        if found == name:
            joined = value if joined is None else joined + b", " + value
    return None if joined is None else joined.decode("latin-1")


def _parsed(text: str | None) -> Authorization | None:
    if text is None:
        return None
    scheme, _, credential = text.partition(" ")
    return Authorization(scheme.lower(), credential.strip(" "))
