"""The links in mail. They depend on the settings alone, never on a request."""

from urllib.parse import quote

from authapi.services.mail.kinds import MailKind
from authapi.settings import Settings
from authapi.settings.accounts import PLACEHOLDER

_PAGES = {
    MailKind.CONFIRM: "confirm",
    MailKind.CHANGE: "confirm",
    MailKind.RESET: "reset",
    MailKind.EMAIL_CHANGED: "undo",
    MailKind.NEW_DEVICE: "disown",
    MailKind.INVITATION: "invitation",
}


def link_for(kind: MailKind, secret: str, settings: Settings, *, locale: str) -> str | None:
    """The URL of the page that redeems `secret`; None if this kind of mail has no link.

    The page is that of the settings (`<page>_link`), or else the one that authapi serves, in the
    language `locale` of the mail.
    """
    page = _PAGES.get(kind)
    if page is None:
        return None
    configured: str | None = getattr(settings, f"{page}_link")
    own = f"{settings.issuer}/account/{page}?token={PLACEHOLDER}&lang={locale}"
    template = configured or own
    return template.replace(PLACEHOLDER, quote(secret, safe=""))
