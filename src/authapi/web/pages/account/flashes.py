"""Messages that a form leaves for the page it leads to, in the data of the session.

They are shown once. The message is a code of a fixed list, so no other page can make one up. The
address of the page says that there is a message: pages without one read no data of the session.
"""

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass

from authapi.domain.identity import Identity
from authapi.domain.session import FLASH
from authapi.errors import AuthAPIError, InvalidCredential, NotFound
from authapi.services import Services
from authapi.web.pages.site import Site

SHOWN = "now"
"""The value of `done` in the address of a page that shows the message of the session."""

_log = logging.getLogger(__name__)

FLASHES: Mapping[str, str] = {
    "app-added": "Your authenticator app is set up. All your other devices are signed out.",
    "app-expired": "That key is not valid any longer. Begin again.",
    "app-kept": "Your authenticator app is set up.",
    "app-removed": "Your authenticator app is removed.",
    "account-activated": "The account is activated.",
    "account-deactivated": "The account is deactivated. All its sign-ins and access tokens ended.",
    "account-deleted": "The account is deleted.",
    "account-saved": "The account is saved.",
    "confirmation-sent": "Another e-mail to confirm your address is on its way.",
    "delivery-busy": "That is being delivered at this moment.",
    "delivery-gone": "That was delivered already.",
    "device-ended": "That device is signed out.",
    "device-gone": "That device was signed out already.",
    "devices-ended": "All other devices are signed out.",
    "email-asked": "We sent an e-mail to the new address. Nothing changes until you open its link.",
    "email-cancelled": "The change of your e-mail address is cancelled.",
    "factor-gone": "That was removed already.",
    "factors-none": "The account has no second step.",
    "factors-reset": "The second steps are removed and all sign-ins ended. The owner was told by "
    "e-mail.",
    "identity-gone": "That account was disconnected already.",
    "identity-removed": "That account is disconnected, and what it signed in has ended.",
    "invited-again": "Another invitation is on its way.",
    "key-gone": "That key was retired already.",
    "key-retired": "That key is retired. Tokens that it signed are refused.",
    "key-rotated": "The next key signs now. Tokens of the previous key stay valid until they end.",
    "language": "Your language is saved.",
    "logins-ended": "No sign-in and no access token was left.",
    "mail-tested": "A test e-mail to you is on its way. If it does not arrive, look here why.",
    "name": "Your name is saved.",
    "passkey-added": "Your passkey is added.",
    "passkey-removed": "That passkey is removed.",
    "passkey-renamed": "That passkey has its new name.",
    "password": "Your password is changed.",
    "reset-link-sent": "An e-mail with a link to choose a password is on its way to the owner.",
    "reset-sent": "An e-mail with a link to choose a password is on its way.",
    "retried": "There was nothing to try again.",
    "token-again": "That token was made already. If you did not copy it, end it and make another.",
    "token-ended": "That token has ended.",
    "token-gone": "That token had ended already.",
    "username": "Your user name is saved.",
    "webhook-gone": "Events are not sent to that address any longer.",
    "webhook-refused": "The receiver did not accept the test.",
    "webhook-silent": "The receiver did not answer.",
    "webhook-tested": "The receiver accepted the test.",
}
"""The sentences by their codes."""
COUNTED: Mapping[str, tuple[str, str]] = {
    "devices-ended": (
        "%(num)s other device is signed out.",
        "%(num)s other devices are signed out.",
    ),
    "retried": (
        "%(num)s delivery is tried again now.",
        "%(num)s deliveries are tried again now.",
    ),
    "webhook-refused": (
        "The receiver did not accept the test: its answer was %(num)s.",
        "The receiver did not accept the test: its answer was %(num)s.",
    ),
    "logins-ended": (
        "%(num)s sign-in or access token ended.",
        "%(num)s sign-ins and access tokens ended.",
    ),
    "password": (
        "Your password is changed. %(num)s other sign-in or access token ended.",
        "Your password is changed. %(num)s other sign-ins and access tokens ended.",
    ),
}
"""The sentences of codes with a number that is not zero, for one and for several."""
PROBLEMS = frozenset(
    {
        *("app-expired", "delivery-busy", "delivery-gone", "device-gone", "factor-gone"),
        *("key-gone", "token-again", "token-gone"),
        *("webhook-gone", "webhook-refused", "webhook-silent"),
    }
)
"""The codes of messages that are no success."""


_STORED = re.compile(r"([a-z-]+)(?: ([1-9][0-9]{0,8}))?")


@dataclass(frozen=True, slots=True)
class Flash:
    """A message for a page."""

    code: str
    number: int = 0
    """How many things the message tells of."""

    @property
    def is_problem(self) -> bool:
        """Whether it tells of no success."""
        return self.code in PROBLEMS

    def text(self, site: Site, language: str) -> str:
        """Returns the sentence in an offered language."""
        if self.number and self.code in COUNTED:
            return site.plural(*COUNTED[self.code], self.number, language)
        return site.text(FLASHES[self.code], language)


async def leave(services: Services, identity: Identity, flash: Flash) -> None:
    """Leaves a message for the next page. What the form has done does not depend on it."""
    stored = f"{flash.code} {flash.number}" if flash.number else flash.code
    try:
        await services.sessions.merge_data(identity, {FLASH: stored})
    except AuthAPIError as error:  # such as a database that does not answer
        _log.warning("message for the next page lost: %s", type(error).__name__)


async def take(services: Services, identity: Identity) -> Flash | None:
    """Returns the message for this page, and removes it; None without one.

    Raises StorageUnavailable if the database does not answer.
    """
    if identity.session_id is None:
        return None
    try:
        stored = (await services.sessions.get_data(identity.session_id)).get(FLASH)
        if stored is None:
            return None
        await services.sessions.merge_data(identity, {FLASH: None})
    except (InvalidCredential, NotFound):  # the session has ended meanwhile
        return None
    found = _STORED.fullmatch(stored) if isinstance(stored, str) else None
    if found is None or found[1] not in FLASHES:  # as another release has left it
        return None
    return Flash(found[1], int(found[2] or 0))


def sentences() -> frozenset[str | tuple[str, str]]:
    """Returns all ids of this module, for the catalogues."""
    return frozenset({*FLASHES.values(), *COUNTED.values()})
