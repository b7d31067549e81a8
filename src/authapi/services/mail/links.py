"""The links in mail, built from the settings alone: no request says where they lead."""

from urllib.parse import quote

from authapi.services.mail.occasions import Occasion
from authapi.settings import Settings
from authapi.settings.accounts import PLACEHOLDER

_PAGES = {
    Occasion.CONFIRM: "confirm",
    Occasion.CHANGE: "confirm",
    Occasion.RESET: "reset",
    Occasion.EMAIL_CHANGED: "undo",
    Occasion.INVITATION: "invitation",
}


def link_of(occasion: Occasion, secret: str, settings: Settings) -> str | None:
    """Where the reader takes `secret`: a page of the application, or ours; None if nowhere."""
    page = _PAGES.get(occasion)
    if page is None:
        return None
    configured: str | None = getattr(settings, f"{page}_link")
    address = configured or f"{settings.issuer}/account/{page}?token={PLACEHOLDER}"
    return address.replace(PLACEHOLDER, quote(secret, safe=""))
