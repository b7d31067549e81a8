"""One sentence for each type of event, as the owner of the account reads it.

The sentences are ids of the catalogues in `locale`. Some types have further sentences, which depend
on the detail of the event: `_BY_MEMBER` names the member and its values, `_WITH_MEMBER` the member
whose value is in the sentence.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from starlette.requests import HTTPConnection

from authapi.clock import now
from authapi.domain.events import REFUSALS, Event, EventType
from authapi.domain.factors.values import FactorMethod
from authapi.domain.federation.proof import FED
from authapi.web.pages.account.device_names import client_name
from authapi.web.pages.reader import language_of
from authapi.web.pages.site import Site, site_of

EVENTS: Mapping[EventType, str] = {
    EventType.ACCOUNT_REGISTERED: "Account created",
    EventType.ACCOUNT_INVITED: "Invited to this service",
    EventType.ACCOUNT_IMPORTED: "Account moved here from another system",
    EventType.ACCOUNT_RENAMED: "Name changed",
    EventType.LOCALE_CHANGED: "Language changed",
    EventType.PROFILE_CHANGED: "Profile changed",
    EventType.USERNAME_CHANGED: "User name changed",
    EventType.ACCOUNT_DEACTIVATED: "Account deactivated",
    EventType.ACCOUNT_ACTIVATED: "Account activated again",
    EventType.ACCOUNT_DELETED: "Account deleted",
    EventType.ROLES_CHANGED: "Roles changed",
    EventType.SUPERUSER_GRANTED: "Account became an administrator",
    EventType.SUPERUSER_REVOKED: "Account is no longer an administrator",
    EventType.LOGIN: "Signed in to your account",
    EventType.NEW_DEVICE: "A new device signed in",
    EventType.LOGIN_REFUSED: "A sign-in was refused, most likely for a wrong password",
    EventType.LOGOUT: "Signed out",
    EventType.PASSWORD_CHANGED: "Password changed",
    EventType.PASSWORD_CHANGE_REFUSED: "The password was not changed: the current one was wrong",
    EventType.PASSWORD_RESET_REQUESTED: "A link to choose a new password was requested",
    EventType.PASSWORD_RESET_SENT: "A link to choose a new password was sent",
    EventType.PASSWORD_RESET: "Password replaced with the link in an e-mail",
    EventType.REAUTHENTICATED: "The password or the second step was confirmed",
    EventType.REAUTHENTICATION_REFUSED: "A wrong password or code was entered",
    EventType.EMAIL_CONFIRMED: "E-mail address confirmed",
    EventType.EMAIL_CHANGE_REQUESTED: "A change of the e-mail address was requested",
    EventType.EMAIL_CHANGED: "E-mail address changed",
    EventType.EMAIL_CHANGE_REVERTED: "The previous e-mail address was restored",
    EventType.INVITATION_RESENT: "The invitation was sent again",
    EventType.INVITATION_ACCEPTED: "Invitation accepted",
    EventType.FACTOR_ADDED: "Second step added",
    EventType.FACTOR_REMOVED: "Second steps removed",
    EventType.FACTORS_RESET: "All second steps removed",
    EventType.RECOVERY_CODES_MADE: "New recovery codes made",
    EventType.RECOVERY_CODE_USED: "A recovery code was used",
    EventType.SECOND_FACTOR_REFUSED: "The second step of a sign-in was refused: the password was "
    "right",
    EventType.PASSKEY_REFUSED: "A passkey was refused",
    EventType.IDENTITY_LINKED: "An account at another website was connected",
    EventType.IDENTITY_UNLINKED: "An account at another website was disconnected",
    EventType.FEDERATED_LOGIN_REFUSED: "A sign-in with an account at another website was refused",
    EventType.SESSION_ENDED: "A device was signed out",
    EventType.SESSIONS_ENDED: "Devices were signed out",
    EventType.ALL_SESSIONS_ENDED: "All devices of all accounts were signed out",
    EventType.EVENTS_REAPPLIED: "Events were repeated after a restore of the database",
    EventType.TOKEN_CREATED: "Access token made",
    EventType.TOKEN_ENDED: "Access token ended",
    EventType.TOKEN_LEAKED: "An access token was found in a public place, and ended",
    EventType.REFRESH_REUSE: "An app was signed out, because its token was used twice",
    EventType.KEY_ROTATED: "Signing key replaced",
    EventType.KEY_RETIRED: "Signing key retired",
    EventType.KEYS_REWRAPPED: "Signing keys encrypted anew",
    EventType.DELIVERIES_RETRIED: "Deliveries repeated",
    EventType.MAIL_TESTED: "Test e-mail sent",
    EventType.WEBHOOK_TESTED: "Webhook tested",
    EventType.THROTTLED: "There were too many attempts to sign in: further ones had to wait",
    EventType.ACCESS_REFUSED: "A request was refused",
}

_BY_MEMBER: Mapping[EventType, tuple[str, Mapping[object, str]]] = {
    EventType.LOGIN: (
        "amr",
        {
            FactorMethod.PASSKEY.amr: "Signed in with a passkey",
            FED: "Signed in with an account at another website",
        },
    ),
    EventType.FACTOR_ADDED: (
        "method",
        {
            FactorMethod.TOTP.value: "Authenticator app added",
            FactorMethod.PASSKEY.value: "Passkey added",
        },
    ),
    EventType.FACTOR_REMOVED: (
        "method",
        {
            FactorMethod.TOTP.value: "Authenticator app removed",
            FactorMethod.PASSKEY.value: "Passkey removed",
        },
    ),
    EventType.PASSKEY_REFUSED: (
        "reason",
        {"counter": "A passkey was refused: it may have been copied"},
    ),
    EventType.SESSION_ENDED: (
        "because",
        {
            "disowned": "A device was signed out with the link in an e-mail",
            "max_sessions": "The device that was unused for longest was signed out, because there "
            "were too many",
            "replaced": "A sign-in was replaced by another one in the same browser",
        },
    ),
}
"""The member of the detail, and the sentences for its values. Of a list, the first item counts: the
first method of a login is that of its first step."""

_WITH_MEMBER: Mapping[EventType, tuple[str, str]] = {
    EventType.ROLES_CHANGED: ("roles", "Roles changed: %(roles)s"),
    EventType.RECOVERY_CODE_USED: ("left", "A recovery code was used. Codes left: %(left)s"),
    EventType.SESSIONS_ENDED: ("count", "Sign-ins ended: %(count)s"),
    EventType.DELIVERIES_RETRIED: ("count", "Deliveries repeated: %(count)s"),
    EventType.WEBHOOK_TESTED: ("host", "Webhook tested: %(host)s"),
    EventType.TOKEN_CREATED: ("name", "Access token made: %(name)s"),
}
"""The member of the detail, and the sentence that contains its value."""

OF_OTHERS: Mapping[EventType, str] = {EventType.LOGIN: "Signed in to the account"}
"""The sentences of `EVENTS` that differ for superusers, who read the events of other accounts."""

_BY_ADMINISTRATOR = "By an administrator"
"""In place of the device, which is that of the administrator."""

SIGN_INS = frozenset(
    {
        EventType.LOGIN,
        EventType.NEW_DEVICE,
        EventType.LOGOUT,
        EventType.REAUTHENTICATED,
        EventType.SESSION_ENDED,
        EventType.SESSIONS_ENDED,
    }
)
"""The types about sign-ins that are no refusals."""
CHANGES = frozenset(EventType) - SIGN_INS - REFUSALS
"""The types about changes of the account."""

_RECENT = timedelta(days=30)
"""The age up to which the owner is asked whether a refused attempt was their own."""


@dataclass(frozen=True, slots=True)
class EventLine:
    """What a page shows of one event."""

    id: UUID
    at: datetime
    sentence: str
    place: str
    """The device and the address, or that an administrator did it; may be empty."""
    is_refused: bool
    asks_owner: bool
    """Whether the attempt was refused, and is recent enough to ask whether it was the owner's."""


def event_lines(connection: HTTPConnection, events: Sequence[Event]) -> Sequence[EventLine]:
    """Returns what the page for this request shows of `events`."""
    site, language = site_of(connection), language_of(connection)
    since = now() - _RECENT
    return [_line(event, site, language, since) for event in events]


def event_sentence(
    site: Site, language: str, event: Event, texts: Mapping[EventType, str] = EVENTS
) -> str:
    """Returns the sentence about an event, in an offered language.

    `texts` are sentences in place of those of `EVENTS`. Details in the database may be those of
    another release, so a value of another type is ignored.
    """
    if event.type in _BY_MEMBER:
        member, by_value = _BY_MEMBER[event.type]
        value = event.detail.get(member)
        if isinstance(value, list):
            value = value[0] if value else None
        if isinstance(value, str) and value in by_value:
            return site.text(by_value[value], language)
    if event.type in _WITH_MEMBER:
        member, text = _WITH_MEMBER[event.type]
        value = _shown(event.detail.get(member))
        if value:
            return site.text(text, language, **{member: value})
    return site.text(texts.get(event.type, EVENTS[event.type]), language)


def sentences() -> frozenset[str]:
    """Returns all ids of this module, for the catalogues."""
    by_value = (text for _, texts in _BY_MEMBER.values() for text in texts.values())
    with_value = (text for _, text in _WITH_MEMBER.values())
    return frozenset(
        {*EVENTS.values(), *OF_OTHERS.values(), *by_value, *with_value, _BY_ADMINISTRATOR}
    )


def _line(event: Event, site: Site, language: str, since: datetime) -> EventLine:
    is_refused = event.type in REFUSALS
    if event.actor_id is None:
        place = client_name(site, language, event.client)
    else:
        # The address and the device of a superuser are personal data of the superuser.
        place = site.text(_BY_ADMINISTRATOR, language)
    sentence = event_sentence(site, language, event)
    return EventLine(
        event.id, event.at, sentence, place, is_refused, is_refused and event.at > since
    )


def _shown(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(item for item in value if isinstance(item, str))
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
