"""The texts of the pages that tests look for, in English and Korean."""

from collections.abc import Mapping

from authapi import Settings
from authapi.web.pages.languages import Languages
from authapi.web.pages.texts import ERRORS, OUTCOMES

_NAMED = {
    "confirm.title": "Confirm your e-mail address",
    "confirm.done": OUTCOMES["confirmed"],
    "without_password.done": OUTCOMES["taken-over"],
    "reset.title": "Choose a new password",
    "reset.done": OUTCOMES["reset"],
    "undo.title": "Recover your account",
    "undo.email": "Previous e-mail address of your account",
    "undo.done": OUTCOMES["undone"],
    "disown.title": "End a login that was not yours",
    "disown.lead": "The device that the e-mail tells of is signed out. Your other devices stay "
    "signed in.",
    "disown.button": "End this login",
    "to_reset": "Request an e-mail to choose a password",
    "disown.done": OUTCOMES["disowned"],
    "invitation.title": "Accept your invitation",
    "invitation.done": OUTCOMES["invited"],
    "forgot.title": "Forgot your password?",
    "forgot.done": OUTCOMES["sent"],
    "another": "Request a new link",
}

ENGLISH: Mapping[str, str] = {**ERRORS, **_NAMED}
_catalogue = Languages(Settings.isolated()).catalogue("ko")
KOREAN: Mapping[str, str] = {name: _catalogue.gettext(text) for name, text in ENGLISH.items()}
