"""Audit events, and the conditions of a search for them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from authapi.domain.client import Client


class EventType(StrEnum):
    """The types of audit events, with the values that the API and the log contain."""

    ACCOUNT_REGISTERED = "account_registered"
    ACCOUNT_INVITED = "account_invited"
    ACCOUNT_IMPORTED = "account_imported"
    ACCOUNT_RENAMED = "account_renamed"
    LOCALE_CHANGED = "locale_changed"
    PROFILE_CHANGED = "profile_changed"
    USERNAME_CHANGED = "username_changed"
    ACCOUNT_DEACTIVATED = "account_deactivated"
    ACCOUNT_ACTIVATED = "account_activated"
    ACCOUNT_DELETED = "account_deleted"
    ROLES_CHANGED = "roles_changed"
    SUPERUSER_GRANTED = "superuser_granted"
    SUPERUSER_REVOKED = "superuser_revoked"
    LOGIN = "login"
    NEW_DEVICE = "new_device"
    LOGIN_REFUSED = "login_refused"
    LOGOUT = "logout"
    PASSWORD_CHANGED = "password_changed"
    PASSWORD_CHANGE_REFUSED = "password_change_refused"
    PASSWORD_RESET_REQUESTED = "password_reset_requested"
    PASSWORD_RESET_SENT = "password_reset_sent"
    PASSWORD_RESET = "password_reset"
    REAUTHENTICATED = "reauthenticated"
    REAUTHENTICATION_REFUSED = "reauthentication_refused"
    EMAIL_CONFIRMED = "email_confirmed"
    EMAIL_CHANGE_REQUESTED = "email_change_requested"
    EMAIL_CHANGED = "email_changed"
    EMAIL_CHANGE_REVERTED = "email_change_reverted"
    INVITATION_RESENT = "invitation_resent"
    INVITATION_ACCEPTED = "invitation_accepted"
    FACTOR_ADDED = "factor_added"
    FACTOR_REMOVED = "factor_removed"
    FACTORS_RESET = "factors_reset"
    RECOVERY_CODES_MADE = "recovery_codes_made"
    RECOVERY_CODE_USED = "recovery_code_used"
    SECOND_FACTOR_REFUSED = "second_factor_refused"
    PASSKEY_REFUSED = "passkey_refused"
    IDENTITY_LINKED = "identity_linked"
    IDENTITY_UNLINKED = "identity_unlinked"
    FEDERATED_LOGIN_REFUSED = "federated_login_refused"
    SESSION_ENDED = "session_ended"
    SESSIONS_ENDED = "sessions_ended"
    ALL_SESSIONS_ENDED = "all_sessions_ended"
    EVENTS_REAPPLIED = "events_reapplied"
    TOKEN_CREATED = "token_created"
    TOKEN_ENDED = "token_ended"
    TOKEN_LEAKED = "token_leaked"
    REFRESH_REUSE = "refresh_reuse"
    KEY_ROTATED = "key_rotated"
    KEY_RETIRED = "key_retired"
    KEYS_REWRAPPED = "keys_rewrapped"
    DELIVERIES_RETRIED = "deliveries_retried"
    MAIL_TESTED = "mail_tested"
    WEBHOOK_TESTED = "webhook_tested"
    THROTTLED = "throttled"
    ACCESS_REFUSED = "access_refused"


REFUSALS = frozenset(
    {
        EventType.LOGIN_REFUSED,
        EventType.PASSWORD_CHANGE_REFUSED,
        EventType.REAUTHENTICATION_REFUSED,
        EventType.SECOND_FACTOR_REFUSED,
        EventType.PASSKEY_REFUSED,
        EventType.FEDERATED_LOGIN_REFUSED,
        EventType.REFRESH_REUSE,
        EventType.THROTTLED,
        EventType.ACCESS_REFUSED,
    }
)
"""Event types with the outcome `refused`. All others have the outcome `success`."""


BEGINNINGS = frozenset(
    {EventType.ACCOUNT_REGISTERED, EventType.ACCOUNT_INVITED, EventType.ACCOUNT_IMPORTED}
)
"""Each account begins with one event of these types."""


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
    """The superuser who changed the account of another user, or what belongs to no account.
    `client` is the client of that superuser then. None in all other cases: the owner, an operator
    at the command line, an unknown caller."""

    @property
    def outcome(self) -> str:
        """`refused` or `success`."""
        return "refused" if self.type in REFUSALS else "success"


@dataclass(frozen=True, slots=True)
class EventFilter:
    """The conditions of a search for events; None matches every event."""

    user_id: UUID | None = None
    actor_id: UUID | None = None
    type: EventType | None = None
    types: frozenset[EventType] | None = None
    """Any of these types."""
    ip: str | None = None
    """An IP address in any notation; an invalid one matches no event."""
    since: UUID | None = None
    """The lowest id, inclusive."""
    until: UUID | None = None
    """The highest id, exclusive."""
