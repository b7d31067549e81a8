"""Immutable values of a caller: `User`, `Session`, `Identity`, `Client`, and `Event`.

They are snapshots, not database rows: they can be cached and passed to other threads.
"""

import ipaddress
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar, Token
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TypeAlias
from uuid import UUID

IPAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

FIRST_PARTY_CLIENT_ID = "authapi"
"""The `client_id` of all tokens that authapi issues (RFC 9068, section 2.2). At a login to authapi,
the service itself is the OAuth client, and a token exchange keeps the value."""


@dataclass(frozen=True, slots=True)
class User:
    """A snapshot of a user account."""

    id: UUID
    """UUIDv7. It is never reused."""
    email: str
    """The address in the spelling of its owner. It is unique in its canonical form."""
    name: str | None
    is_active: bool
    is_superuser: bool
    email_confirmed_at: datetime | None
    created_at: datetime
    updated_at: datetime
    locale: str | None = None
    """The language of mails to the user; None for the default language of the service."""
    roles: frozenset[str] = frozenset()
    """Names of roles. The setting `roles` maps each to scopes."""


class SessionKind(StrEnum):
    """The form of the credential that belongs to a session."""

    SESSION = "session"
    """A secret in a cookie."""
    TOKEN = "token"
    """An opaque bearer token."""
    JWT = "jwt"
    """A signed token whose claim `sid` is the id of the session."""


@dataclass(frozen=True, slots=True)
class Client:
    """The origin of a request: address, user agent and request id."""

    ip: str | None = None
    """In the format of `canonical_ip`; None if the address is missing or not valid."""
    user_agent: str | None = None
    """Printable characters, at most 255."""
    request_id: str | None = None
    """Correlates the response, the log lines and the events of one request."""

    @property
    def network(self) -> str:
        """The network of the client, which is the key of rate limits."""
        return network_of(self.ip)


UNKNOWN_NETWORK = "unknown"
"""The result of `network_of` for a text that is not an IP address."""
_MAX_ADDRESS_LENGTH = 45
"""Characters of the longest IPv6 address, one that ends in dotted decimal notation."""


def network_of(ip: str | None) -> str:
    """The network of an address, for rate limits: the address for IPv4, the /64 for IPv6.

    Providers assign a /64 or more to each customer, so a limit for each IPv6 address would not
    limit an attacker. All clients without a valid address share one network, so they are limited
    as well.
    """
    address = parse_ip(ip or "")
    if address is None:
        return UNKNOWN_NETWORK
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address.packed, 64), strict=False))
    return str(address)


def parse_ip(text: str) -> IPAddress | None:
    """Parses an IP address. Returns None if `text` is not one.

    An IPv4-mapped IPv6 address (RFC 4291, section 2.5.5.2) becomes the IPv4 address, because a
    dual-stack socket reports IPv4 peers in that form. The zone of an IPv6 address (RFC 4007) is
    removed: it has a meaning only on the machine that wrote it, and can contain any text.
    """
    bare, zone, _ = text.partition("%")
    if len(bare) > _MAX_ADDRESS_LENGTH:
        return None
    try:
        if ":" not in bare:
            return None if zone else ipaddress.IPv4Address(bare)
        address = ipaddress.IPv6Address(bare)
    except ValueError:
        return None
    return address if address.ipv4_mapped is None else address.ipv4_mapped


def canonical_ip(text: str) -> str | None:
    """The canonical text of an IP address, or None if `text` is not one.

    IPv4 in dotted decimal notation, IPv6 as in RFC 5952.
    """
    address = parse_ip(text)
    return None if address is None else str(address)


_client: ContextVar[Callable[[], Client]] = ContextVar("authapi_client", default=Client)


def current_client() -> Client:
    """The client of the current request; an empty `Client` outside of a request.

    The value is in a context variable, because every audit event contains it, and nearly every
    function would need it as a parameter otherwise.
    """
    return _client.get()()


class on_behalf_of:  # noqa: N801  # a context manager, used like a function
    """Context manager that sets the result of `current_client` for its block.

    `get_client` is called by `current_client` and not before, because most requests do not need
    the client.
    """

    __slots__ = ("_get_client", "_token")

    def __init__(self, get_client: Callable[[], Client]) -> None:
        self._get_client = get_client

    def __enter__(self) -> None:
        self._token: Token[Callable[[], Client]] = _client.set(self._get_client)

    def __exit__(self, *_: object) -> None:
        _client.reset(self._token)


@dataclass(frozen=True, slots=True)
class Session:
    """A login session or a personal access token. It never contains the credential itself."""

    id: UUID
    user_id: UUID
    kind: SessionKind
    name: str | None
    """The name that the owner gave to a personal access token; None for logins."""
    scopes: frozenset[str] | None
    """The granted scopes; None for a login, which has all scopes that its user has at the time of
    use (see `services/scopes`)."""
    created_at: datetime
    last_seen_at: datetime
    idle_expires_at: datetime | None
    """When it expires if it is not used again; None if it has no idle timeout."""
    expires_at: datetime
    """When it expires in any case (absolute timeout)."""
    auth_time: datetime
    """When the user last authenticated."""
    amr: tuple[str, ...]
    """The authentication methods, as names of RFC 8176; empty for personal access tokens."""
    client: Client
    data: Mapping[str, object]
    """Data of the application, stored for the lifetime of the session."""
    remembered: bool = False
    """Whether the cookie is persistent, so that it survives closing the browser."""

    @property
    def idle(self) -> timedelta | None:
        """The idle timeout, or None."""
        expires_at = self.idle_expires_at
        return None if expires_at is None else expires_at - self.last_seen_at


class Claims(Mapping[str, object]):
    """The claims of an issuer about a caller (RFC 7519, section 4), as an immutable mapping.

    Nested objects are `Claims` and arrays are tuples, because many requests share one identity.
    """

    __slots__ = ("_members",)

    def __init__(self, members: Mapping[str, object]) -> None:
        self._members = {name: _frozen(value) for name, value in members.items()}

    def __getitem__(self, name: str) -> object:
        return self._members[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def __deepcopy__(self, _: object) -> "Claims":
        return self

    def __repr__(self) -> str:
        # Names without values: the values are personal data, and reprs end up in logs.
        return f"Claims({', '.join(self._members)})"


def _frozen(value: object) -> object:
    if isinstance(value, Mapping):
        return Claims(value)
    return tuple(map(_frozen, value)) if isinstance(value, list | tuple) else value


NO_CLAIMS = Claims({})


@dataclass(frozen=True, slots=True)
class Identity:
    """An authenticated caller, and how it was authenticated."""

    user: User
    strategy: str
    """The name of the strategy that authenticated the caller."""
    session_id: UUID | None
    """The session of the credential; None if it has none, as HTTP Basic."""
    scopes: frozenset[str]
    auth_time: datetime
    amr: tuple[str, ...]
    expires_at: datetime | None
    """When the credential expires at the latest; None if it does not expire."""
    claims: Mapping[str, object] = field(default_factory=lambda: NO_CLAIMS, hash=False)
    """The verified claims of another issuer; empty for credentials that authapi issued."""
    remembered: bool = False
    """Whether the cookie is persistent, so that it survives closing the browser."""


class EventType(StrEnum):
    """The types of audit events, with the values that `GET /me/events` and the log contain."""

    ACCOUNT_REGISTERED = "account_registered"
    ACCOUNT_INVITED = "account_invited"
    ACCOUNT_IMPORTED = "account_imported"
    ACCOUNT_RENAMED = "account_renamed"
    ACCOUNT_DEACTIVATED = "account_deactivated"
    ACCOUNT_ACTIVATED = "account_activated"
    ACCOUNT_DELETED = "account_deleted"
    ROLES_CHANGED = "roles_changed"
    SUPERUSER_GRANTED = "superuser_granted"
    SUPERUSER_REVOKED = "superuser_revoked"
    LOGIN = "login"
    LOGIN_REFUSED = "login_refused"
    LOGOUT = "logout"
    PASSWORD_CHANGED = "password_changed"
    PASSWORD_CHANGE_REFUSED = "password_change_refused"
    PASSWORD_RESET_REQUESTED = "password_reset_requested"
    PASSWORD_RESET = "password_reset"
    REAUTHENTICATED = "reauthenticated"
    REAUTHENTICATION_REFUSED = "reauthentication_refused"
    EMAIL_CONFIRMED = "email_confirmed"
    EMAIL_CHANGE_REQUESTED = "email_change_requested"
    EMAIL_CHANGED = "email_changed"
    EMAIL_CHANGE_REVERTED = "email_change_reverted"
    INVITATION_ACCEPTED = "invitation_accepted"
    SESSION_ENDED = "session_ended"
    SESSIONS_ENDED = "sessions_ended"
    TOKEN_CREATED = "token_created"
    TOKEN_ENDED = "token_ended"
    TOKEN_LEAKED = "token_leaked"
    REFRESH_REUSE = "refresh_reuse"
    KEY_ROTATED = "key_rotated"
    KEY_RETIRED = "key_retired"
    KEYS_REWRAPPED = "keys_rewrapped"
    THROTTLED = "throttled"
    ACCESS_REFUSED = "access_refused"


REFUSALS = frozenset(
    {
        EventType.LOGIN_REFUSED,
        EventType.PASSWORD_CHANGE_REFUSED,
        EventType.REAUTHENTICATION_REFUSED,
        EventType.REFRESH_REUSE,
        EventType.THROTTLED,
        EventType.ACCESS_REFUSED,
    }
)
"""Event types with the outcome `refused`. All others have the outcome `success`."""


@dataclass(frozen=True, slots=True)
class Event:
    """An audit event: a change of an account, or a refused attempt."""

    id: UUID
    """UUIDv7: ids sort by time, with a resolution of one millisecond."""
    at: datetime
    type: EventType
    user_id: UUID | None
    """The account; None if it does not exist, as in a login with an unknown address."""
    session_id: UUID | None
    strategy: str | None
    client: Client
    detail: Mapping[str, object]
    """Further members. They never contain a secret or text of an unauthenticated caller."""
    actor_id: UUID | None = None
    """The superuser who changed the account of another user. `client` is the client of that
    superuser then. None in all other cases: the owner, an operator at the command line, an unknown
    caller."""

    @property
    def outcome(self) -> str:
        """`refused` or `success`."""
        return "refused" if self.type in REFUSALS else "success"
