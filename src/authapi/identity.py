"""The frozen values that say who is calling: `User`, `Session`, `Identity`, `Client`, and `Event`.

They are snapshots, safe to keep in memory and to hand to other threads; never database rows.
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

OWN_CLIENT = "authapi"
"""The `client_id` of every token that a login with this service gives, and of what is exchanged for
one (RFC 9068, section 2.2): the service is its own OAuth client then."""


@dataclass(frozen=True, slots=True)
class User:
    """An account, as it was when it was read."""

    id: UUID
    """UUIDv7; never given to anybody else."""
    email: str
    """The address as its owner wrote it; two spellings of one address cannot both exist."""
    name: str | None
    is_active: bool
    is_superuser: bool
    email_confirmed_at: datetime | None
    created_at: datetime
    updated_at: datetime
    locale: str | None = None
    """The language that they are written to in; None: that of the service."""
    roles: frozenset[str] = frozenset()
    """Names of roles that the settings give scopes to."""


class SessionKind(StrEnum):
    """The envelope that a session travels in."""

    SESSION = "session"
    """A secret in a cookie."""
    TOKEN = "token"
    """An opaque bearer token."""
    JWT = "jwt"
    """A signed token whose `sid` claim names the row."""


@dataclass(frozen=True, slots=True)
class Client:
    """Where a request comes from, as far as the connection tells."""

    ip: str | None = None
    """In the spelling of `canonical_ip`; None if the address is missing or cannot be read."""
    user_agent: str | None = None
    """Printable, and at most 255 characters."""
    request_id: str | None = None
    """Joins answers, log lines and events of one request."""

    @property
    def network(self) -> str:
        """What the client is counted under."""
        return network_of(self.ip)


NO_NETWORK = "unknown"
"""What `network_of` says of what is no address."""
_LONGEST_ADDRESS = 45
"""Characters of an IPv6 address that ends in four decimal numbers, every group written out."""


def network_of(ip: str | None) -> str:
    """The network that an address is counted under: itself for IPv4, its /64 for IPv6.

    One customer has a whole /64, so each of its addresses would be a new visitor. What has no
    address shares one name: no address must not mean no limit.
    """
    address = read_address(ip or "")
    if address is None:
        return NO_NETWORK
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address.packed, 64), strict=False))
    return str(address)


def read_address(text: str) -> IPAddress | None:
    """The address that `text` spells, or None.

    An IPv4-mapped IPv6 address (RFC 4291, section 2.5.5.2) is the IPv4 address inside it: a socket
    for both families shows IPv4 peers so. The zone of an IPv6 address (RFC 4007) is dropped: it
    names an interface of the machine that wrote it, and may be any text.
    """
    bare, zone, _ = text.partition("%")
    if len(bare) > _LONGEST_ADDRESS:
        return None
    try:
        if ":" not in bare:
            return None if zone else ipaddress.IPv4Address(bare)
        address = ipaddress.IPv6Address(bare)
    except ValueError:
        return None
    return address if address.ipv4_mapped is None else address.ipv4_mapped


def canonical_ip(text: str) -> str | None:
    """The one spelling of the address that `text` spells, or None.

    IPv4 in four decimal numbers, IPv6 as in RFC 5952.
    """
    address = read_address(text)
    return None if address is None else str(address)


_client: ContextVar[Callable[[], Client]] = ContextVar("authapi_client", default=Client)


def current_client() -> Client:
    """Where the work at hand comes from; nowhere in particular outside of a request.

    A context variable, because every change is written down with it, and handing it through every
    call would say nothing more.
    """
    return _client.get()()


class on_behalf_of:  # noqa: N801  # reads as a verb at its places of use
    """Inside this block, work comes from the client that `tell` tells.

    It is asked only when somebody wants to know, which few requests do.
    """

    __slots__ = ("_tell", "_token")

    def __init__(self, tell: Callable[[], Client]) -> None:
        self._tell = tell

    def __enter__(self) -> None:
        self._token: Token[Callable[[], Client]] = _client.set(self._tell)

    def __exit__(self, *_: object) -> None:
        _client.reset(self._token)


@dataclass(frozen=True, slots=True)
class Session:
    """A login session: what a credential stands for. The credential itself is never part of it."""

    id: UUID
    user_id: UUID
    kind: SessionKind
    name: str | None
    """What its owner calls it: set for personal access tokens, else None."""
    scopes: frozenset[str] | None
    """What it was given; None for a login, which may do what its user may at the time of use. Ask
    `services/scopes` what that is."""
    created_at: datetime
    last_seen_at: datetime
    idle_expires_at: datetime | None
    """When it ends if it is not used again; None where idleness does not end it."""
    expires_at: datetime
    """When it ends however much it is used."""
    auth_time: datetime
    """When its owner last proved who they are."""
    amr: tuple[str, ...]
    """How they proved it, in the words of RFC 8176."""
    client: Client
    data: Mapping[str, object]
    """What the application keeps for the length of this session."""
    remembered: bool = False
    """Whether the browser was told to keep the cookie when it closes."""

    @property
    def idle(self) -> timedelta | None:
        """How long it lasts without use; None where idleness does not end it."""
        ends = self.idle_expires_at
        return None if ends is None else ends - self.last_seen_at


class Claims(Mapping[str, object]):
    """What an issuer says of a caller (RFC 7519, section 4), so that nobody can change it.

    Objects within are `Claims` too, and arrays are tuples: one identity serves many requests.
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
        # Their names only: the values say who somebody is, and reprs end in logs.
        return f"Claims({', '.join(self._members)})"


def _frozen(value: object) -> object:
    if isinstance(value, Mapping):
        return Claims(value)
    return tuple(map(_frozen, value)) if isinstance(value, list | tuple) else value


NO_CLAIMS = Claims({})


@dataclass(frozen=True, slots=True)
class Identity:
    """Who is calling, and how that was proved."""

    user: User
    strategy: str
    """The name of the strategy that recognised the caller."""
    session_id: UUID | None
    """The session behind the credential; None where there is none, as with HTTP Basic."""
    scopes: frozenset[str]
    auth_time: datetime
    amr: tuple[str, ...]
    expires_at: datetime | None
    """When this credential stops working at the latest; None if it does not expire."""
    claims: Mapping[str, object] = field(default_factory=lambda: NO_CLAIMS, hash=False)
    """What another issuer says of the caller, verified; empty for credentials of our own."""
    remembered: bool = False
    """Whether the browser was told to keep the cookie when it closes."""


class EventType(StrEnum):
    """What can happen to an account, in the words that `GET /me/events` and the log use."""

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
    EMAIL_CHANGE_UNDONE = "email_change_undone"
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
"""Events of which the outcome is a refusal; of the others it is success."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to an account, or was tried."""

    id: UUID
    """UUIDv7: later events have greater ids, to the millisecond."""
    at: datetime
    type: EventType
    user_id: UUID | None
    """Whose account; None where a login named none that exists."""
    session_id: UUID | None
    strategy: str | None
    client: Client
    detail: Mapping[str, object]
    """What else is worth knowing; never a secret, and never what a stranger typed."""
    actor_id: UUID | None = None
    """The superuser who did it to somebody's account; None for its owner, an operator at the
    command line, and whoever else it was. `client` is then theirs."""

    @property
    def outcome(self) -> str:
        """`refused` or `success`."""
        return "refused" if self.type in REFUSALS else "success"
